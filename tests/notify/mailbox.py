"""A mail server: aiosmtpd with STARTTLS (or TLS from the start, or neither) and AUTH, both required.

Arguments: "starttls", "tls" or "none", a certificate, its key. Says its port on the first line, and then each mail on a line of
JSON, taken apart by Python's own parser.
"""

import asyncio
import json
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult

MODE, CERTIFICATE, KEY = sys.argv[1:4]
USER, PASSWORD = b"upcall", b"hunter2"


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        said = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or MODE == "tls",
            "user": session.authenticated,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "defects": [repr(defect) for part in mail.walk() for defect in part.defects],
            "plain": mail.get_body(("plain",)).get_content(),
            "html": mail.get_body(("html",)).get_content(),
        }
        print(json.dumps(said), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    # Not handled: the server says 535 by itself.
    return AuthResult(success=data.login == USER and data.password == PASSWORD, handled=False)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    starttls = MODE == "starttls"

    def session():
        return SMTP(
            Handler(),
            hostname="mail.test",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=True,
            # The outer TLS is not known to it.
            auth_require_tls=starttls,
            authenticator=authenticate,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if MODE == "tls" else None)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
