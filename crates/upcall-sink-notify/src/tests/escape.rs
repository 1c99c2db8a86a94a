//! No value gets out of its place, whatever the service. Names of objects are whoever uploads'.

use proptest::prelude::*;
use pulldown_cmark::{Event as Mark, Options, Parser, Tag};
use serde_json::Value;
use upcall_event::Event;

use super::{chats, event, mail};
use crate::mail::message;
use crate::notice::{Message, Notice};
use crate::{Chat, ChatKind, chat};

/// What attackers try, to be mixed with anything.
const TRICKS: &[&str] = &[
    "<!here>",
    "<!channel>",
    "@everyone",
    "@here",
    "@all",
    "<@U123>",
    "<@&1>",
    "<@all>",
    "<at user_id=\"all\">x</at>",
    "<AT id=all></AT>",
    "[a](https://evil.example)",
    "![a](https://evil.example/a.png)",
    "<https://evil.example|x>",
    "**",
    "__",
    "~~",
    "`",
    "```",
    "||",
    "# ",
    "- ",
    "1. ",
    "1) ",
    "> ",
    "* ",
    "===",
    "---",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\r\nSubject: x",
    "\r\nBcc: a@b.example",
    "\u{2028}",
    "\u{202e}",
    "\u{0}",
    "\u{1b}[31m",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</td></tr></table>",
    "&lt;b&gt;",
    "&#64;",
    "&amp;",
    "]]>",
    "<!--",
    "\"",
    "'",
    "\\",
    "\\\\",
    "\",\"x\":\"",
    "${object}",
    "=?utf-8?B?QQ==?=",
    ".",
    "..",
    "{",
    "}",
    "{{DATE(2026-01-01T00:00:00Z,LONG)}}",
    "|",
    "年",
    "👩‍👩‍👧",
    "\u{ffff}",
    "\t",
    "    ",
    ":smile:",
    "$x$",
    "[^1]",
    "[x]: y",
    "~",
];

fn name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => proptest::sample::select(TRICKS).prop_map(str::to_owned),
        1 => "[a-z0-9_ ./-]{0,8}",
        1 => any::<String>().prop_map(|text| text.chars().take(12).collect()),
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

/// An event all of whose texts are the same.
fn of(text: &str) -> Event {
    let mut event = event(text);
    event.data.bucket = text.into();
    event.data.mime_type = Some(text.into());
    event.data.client_ip = Some(text.into());
    event.data.vars = [(text.to_owned(), text.to_owned())].into();
    event
}

fn notices(text: &str) -> [Notice; 2] {
    let message = Message {
        title: Some("${object}".parse().unwrap()),
        text: Some("${object}\n${vars.x}${object} and ${bucket}".parse().unwrap()),
        link: Some("https://cdn.example.com/x".parse().unwrap()),
    };
    let link = message.link.clone();
    [Message { link, ..Message::default() }.one(&of(text)), message.one(&of(text))]
}

fn body(kind: ChatKind, notice: &Notice) -> Value {
    let chat = Chat { kind, endpoint: "https://chat.example.com/hook".parse().unwrap() };
    chat::post(&chat, notice, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap().body
}

/// The same with all texts left out. Pieces of text without any are left out, too.
fn skeleton(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::Null,
        Value::Array(items) => items.iter().map(skeleton).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), skeleton(value))).collect(),
        other => other.clone(),
    }
}

fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.values().for_each(|member| texts(member, into)),
        _ => {}
    }
}

/// What a text in Markdown is shown as, and the marks in it.
fn shown(markdown: &str) -> (String, Vec<String>) {
    let options =
        Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_FOOTNOTES;
    let (mut text, mut marks) = (String::new(), Vec::new());
    for mark in Parser::new_ext(markdown, options) {
        match mark {
            Mark::Text(piece) => text.push_str(&piece),
            Mark::SoftBreak | Mark::Start(Tag::Paragraph) => text.push('\n'),
            Mark::End(_) => {}
            other => marks.push(format!("{other:?}")),
        }
    }
    (text.trim().to_owned(), marks)
}

/// The same with white space, which Markdown and mail take liberties with, in one form.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Names of more than one service's limits are cut; these are not.
fn is_short(text: &str) -> bool {
    text.len() < 200
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_name_changes_the_structure_of_a_chat_message(name in name()) {
        // What is only white space has no place of its own in a line.
        prop_assume!(!name.trim().is_empty() && !name.starts_with(char::is_whitespace));
        for (_, kind) in chats() {
            for (notice, plain) in notices(&name).iter().zip(notices("x")) {
                let (tricky, plain) = (body(kind.clone(), notice), body(kind.clone(), &plain));
                prop_assert_eq!(skeleton(&tricky), skeleton(&plain), "{:?}", tricky);
            }
        }
    }

    #[test]
    fn no_name_is_a_date_in_a_card(name in name()) {
        for notice in notices(&name) {
            let card = body(ChatKind::Teams, &notice).to_string();
            prop_assert!(!card.contains("{{DATE(") && !card.contains("{{TIME("), "{card}");
        }
    }

    #[test]
    fn no_name_mentions_anybody(name in name()) {
        for notice in notices(&name) {
            let mut all = Vec::new();
            texts(&body(ChatKind::Feishu { secret: None }, &notice), &mut all);
            for text in all {
                let text = text.to_ascii_lowercase();
                prop_assert!(!text.contains("<at") && !text.contains("</at"), "{text:?}");
            }
            let wecom = body(ChatKind::WeCom, &notice);
            let content = wecom["text"]["content"].as_str().unwrap();
            prop_assert!(!content.contains("<@"), "{content:?}");
            prop_assert_eq!(content.lines().count(), notice.plain().lines().count());

            let discord = body(ChatKind::Discord, &notice);
            prop_assert_eq!(&discord["allowed_mentions"]["parse"], &Value::Array(Vec::new()));
            prop_assert!(discord.get("content").is_none(), "mentions are heard there only");

            let dingtalk = body(ChatKind::DingTalk { secret: None }, &notice);
            prop_assert_eq!(&dingtalk["at"], &serde_json::json!({ "isAtAll": false }));

            let slack = body(ChatKind::Slack, &notice);
            let fallback = slack["text"].as_str().unwrap();
            prop_assert!(!fallback.contains(['<', '>']), "{fallback:?}");
            for block in slack["blocks"].as_array().unwrap() {
                prop_assert!(matches!(block["type"].as_str(), Some("header" | "rich_text")));
                prop_assert!(block["text"]["type"] != "mrkdwn");
            }
        }
    }

    #[test]
    fn markdown_shows_names_as_they_are_and_none_is_a_mark(name in name()) {
        prop_assume!(is_short(&name));
        for notice in notices(&name) {
            let discord = body(ChatKind::Discord, &notice);
            let (text, marks) = shown(discord["embeds"][0]["title"].as_str().unwrap());
            prop_assert_eq!(words(&text), words(&notice.title.line()));
            prop_assert!(marks.is_empty(), "{marks:?}");

            let plain: Vec<String> = notice.lines.iter().map(crate::notice::Line::plain).collect();
            let bold = notice.lines.iter().filter(|line| matches!(line, crate::notice::Line::Fact { .. })).count();
            let (text, marks) = shown(discord["embeds"][0]["description"].as_str().unwrap());
            prop_assert_eq!(words(&text), words(&plain.join("\n")));
            prop_assert_eq!(marks, vec!["Start(Strong)"; bold]);

            let dingtalk = body(ChatKind::DingTalk { secret: None }, &notice);
            let (text, marks) = shown(dingtalk["markdown"]["text"].as_str().unwrap());
            prop_assert_eq!(words(&text), words(&format!("{} {} Open", notice.title.line(), plain.join("\n"))));
            let links = marks.iter().filter(|mark| mark.contains("Link")).count();
            prop_assert_eq!((links, marks.len()), (1, bold + 2), "a heading, labels, and the link: {:?}", marks);
        }
    }

    #[test]
    fn a_mail_stays_one_mail_with_one_subject_and_a_page_of_the_same_structure(name in name()) {
        for (notice, plain) in notices(&name).iter().zip(notices("x")) {
            let (tricky, plain) = (message(&mail(), notice).unwrap().formatted(), message(&mail(), &plain).unwrap().formatted());
            let (tricky, plain) = (mailparse::parse_mail(&tricky).unwrap(), mailparse::parse_mail(&plain).unwrap());
            let names = |mail: &mailparse::ParsedMail<'_>| mail.headers.iter().map(|header| header.get_key()).collect::<Vec<_>>();
            prop_assert_eq!(names(&tricky), names(&plain));
            let subject: Vec<_> = tricky.headers.iter().filter(|header| header.get_key_ref() == "Subject").collect();
            prop_assert_eq!(subject.len(), 1);
            if is_short(&name) && !name.contains("=?") {
                prop_assert_eq!(words(&subject[0].get_value()), words(&notice.title.line()));
            }
            prop_assert_eq!(tricky.subparts.len(), 2);

            let page = |mail: &mailparse::ParsedMail<'_>| mail.subparts[1].get_body().unwrap();
            let elements = |page: &str| {
                let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
                let document = roxmltree::Document::parse_with_options(page, options).unwrap();
                let nodes = document.descendants().filter(roxmltree::Node::is_element);
                nodes.map(|node| (node.tag_name().name().to_owned(), node.attributes().len())).collect::<Vec<_>>()
            };
            prop_assert_eq!(elements(&page(&tricky)), elements(&page(&plain)));
        }
    }
}
