"""Chat services, as their documentation describes them: what they take, how they check signatures, what they answer.

Says its port on the first line, and then each message that it was sent on a line of JSON: the service, the message, and
what is wrong with it (null if nothing is).
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DINGTALK_SECRET, FEISHU_SECRET = sys.argv[1], sys.argv[2]
HOUR = 3600
SAYING = threading.Lock()


def need(condition, problem):
    if not condition:
        raise ValueError(problem)


def signed(key, text):
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def slack(query, body):
    # https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, .../block-kit/blocks
    need(isinstance(body["text"], str), "no text for notifications")
    need(not set("<>") & set(body["text"]), "control characters in text")
    header, rich = body["blocks"]
    need(header["type"] == "header" and header["text"]["type"] == "plain_text", "no header")
    need(0 < len(header["text"]["text"]) <= 150, "a header that is too long")
    need(rich["type"] == "rich_text", "no rich text")
    for section in rich["elements"]:
        need(section["type"] == "rich_text_section", "no section")
        for element in section["elements"]:
            need(element["type"] in ("text", "link"), "an element that is no text")
            need(element["text"] and isinstance(element["text"], str), "an empty text")
            need(set(element) <= {"type", "text", "url", "style"}, "an unknown key")


def teams(query, body):
    # https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
    need(body["type"] == "message", "no message")
    (attachment,) = body["attachments"]
    need(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "no card")
    card = attachment["content"]
    need(card["type"] == "AdaptiveCard" and card["version"] == "1.4", "no card of version 1.4")
    for block in card["body"]:
        need(block["type"] == "RichTextBlock", "a block that knows Markdown")
        need(all(run["type"] == "TextRun" and run["text"] for run in block["inlines"]), "an inline that is no text")
    need(all(a["type"] == "Action.OpenUrl" for a in card.get("actions", [])), "an unknown action")
    need(len(json.dumps(body)) <= 28 * 1024, "more than 28 KB")


def discord(query, body):
    # https://docs.discord.com/developers/resources/webhook#execute-webhook
    need("content" not in body, "content, where mentions are heard")
    need(body["allowed_mentions"] == {"parse": []}, "mentions are allowed")
    (embed,) = body["embeds"]
    need(0 < len(embed["title"]) <= 256 and 0 < len(embed["description"]) <= 4096, "text that is too long")


def dingtalk(query, body):
    # https://open.dingtalk.com/document/robots/customize-robot-security-settings
    need(query["access_token"] == ["token"], "no token")
    (timestamp,), (sign,) = query["timestamp"], query["sign"]
    need(abs(time.time() * 1000 - int(timestamp)) < HOUR * 1000, "timestamp is not within one hour")
    need(sign == signed(DINGTALK_SECRET, f"{timestamp}\n{DINGTALK_SECRET}"), "sign not match")
    need(body["msgtype"] == "markdown", "no Markdown")
    need(body["markdown"]["title"] and body["markdown"]["text"], "no title or text")
    need(not body["at"]["isAtAll"] and set(body["at"]) == {"isAtAll"}, "somebody is mentioned")


def feishu(query, body):
    # https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
    need(abs(time.time() - int(body["timestamp"])) < HOUR, "timestamp is not within one hour")
    need(body["sign"] == signed(f"{body['timestamp']}\n{FEISHU_SECRET}", ""), "sign match fail")
    need(body["msg_type"] == "post", "no post")
    post = body["content"]["post"]["zh_cn"]
    need(post["title"], "no title")
    for paragraph in post["content"]:
        need(all(tag["tag"] in ("text", "a") and tag["text"] for tag in paragraph), "a tag that is no text")
    need("<at" not in json.dumps(body).lower(), "somebody is mentioned")


def wecom(query, body):
    # https://developer.work.weixin.qq.com/document/path/91770
    need(query["key"] == ["key"], "no key")
    need(body["msgtype"] == "text" and set(body["text"]) == {"content"}, "no text, or somebody is mentioned")
    need(len(body["text"]["content"].encode()) <= 2048, "content exceeds max length")
    need("<@" not in body["text"]["content"], "somebody is mentioned")


# Each service, and its answers to what is right and to what is not.
SERVICES = {
    "slack": (slack, (200, "ok"), (400, "invalid_payload")),
    "teams": (teams, (202, ""), (400, "Bad payload")),
    "discord": (discord, (204, ""), (400, '{"message":"Invalid Form Body","code":50035}')),
    "dingtalk": (dingtalk, (200, '{"errcode":0,"errmsg":"ok"}'), (200, '{"errcode":310000,"errmsg":"sign not match"}')),
    "feishu": (feishu, (200, '{"code":0,"msg":"success","data":{}}'), (200, '{"code":19021,"msg":"sign match fail"}')),
    "wecom": (wecom, (200, '{"errcode":0,"errmsg":"ok"}'), (200, '{"errcode":40058,"errmsg":"invalid"}')),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        url = urlsplit(self.path)
        name = url.path.strip("/")
        check, right, wrong = SERVICES[name]
        problem, message = None, None
        try:
            need(self.headers["content-type"].startswith("application/json"), "no JSON")
            message = json.loads(body)
            check(parse_qs(url.query, strict_parsing=bool(url.query)), message)
        except Exception as error:
            problem = repr(error)
        with SAYING:
            print(json.dumps({"service": name, "problem": problem, "message": message}), flush=True)
        status, answer = wrong if problem else right
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
