// Has AsyncAPI's own parser read a document, and fails if it warns of anything: asyncapi.mjs NODE_FOLDER DOCUMENT
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, path] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;

const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"));
for (const { severity, code, message, path: at } of diagnostics) {
  console.log(["error", "warning", "information", "hint"][severity], code, at.join("."), message);
}
// The rest is advice, such as to use a later version than tools can read yet.
if (!document || diagnostics.some(({ severity }) => severity <= 1)) process.exit(1);

// The parser leaves the examples of version 3 alone.
const ajv = addFormats(new Ajv({ strict: false }));
ajv.addFormat("uint64", { type: "number", validate: (number) => Number.isInteger(number) && number >= 0 });
let examples = 0;
for (const message of document.messages().all()) {
  const fits = (schema, value, what) => {
    if (!ajv.validate(schema.json(), value)) throw new Error(`${message.id()}: ${what} ${ajv.errorsText()}`);
  };
  for (const example of message.examples().all()) {
    fits(message.headers(), example.headers(), "headers");
    fits(message.payload(), example.payload(), "payload");
    examples += 1;
  }
}
const names = (all) => all.map((one) => one.id()).join(", ");
console.log(`channels: ${names(document.channels().all())}; operations: ${names(document.operations().all())}`);
console.log(`it is valid, with ${examples} examples`);
