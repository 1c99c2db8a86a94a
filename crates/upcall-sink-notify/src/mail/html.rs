//! A mail as a page: tables and styles in place, which every mail program knows. Nothing is fetched from anywhere.

use crate::notice::{Line, Notice, more};

/// The page. It is well-formed as XML, too.
pub(super) fn page(notice: &Notice) -> String {
    let title = escaped(&notice.title.line());
    let mut rows = String::new();
    let mut items = String::new();
    for line in &notice.lines {
        match line {
            Line::Fact { label, value } => rows.push_str(&format!(
                "<tr><td style=\"{LABEL}\">{}</td><td style=\"{VALUE}\">{}</td></tr>\n",
                escaped(&label.line()),
                escaped(&value.line()),
            )),
            Line::Text(text) => {
                let lines: Vec<String> = text.plain().lines().map(escaped).collect();
                rows.push_str(&format!("<tr><td colspan=\"2\" style=\"{TEXT}\">{}</td></tr>\n", lines.join("<br />")));
            }
            Line::Item(item) => items.push_str(&format!("<li style=\"{ITEM}\">{}</li>\n", escaped(&item.line()))),
            Line::More(count) => items.push_str(&format!("<li style=\"{MORE}\">{}</li>\n", escaped(&more(*count)))),
        }
    }
    if !items.is_empty() {
        rows.push_str(&format!("<tr><td colspan=\"2\"><ul style=\"{LIST}\">\n{items}</ul></td></tr>\n"));
    }
    if let Some(link) = &notice.link {
        rows.push_str(&format!(
            "<tr><td colspan=\"2\" style=\"padding:20px 0 4px\"><a href=\"{}\" style=\"{BUTTON}\">Open</a></td></tr>\n",
            escaped(link)
        ));
    }
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta name=\"viewport\" content=\"width=device-width\" />\n<title>{title}</title>\n</head>\n\
         <body style=\"{BODY}\">\n<table role=\"presentation\" style=\"{CARD}\">\n<tr><td style=\"{HEAD}\">{title}</td></tr>\n\
         <tr><td style=\"padding:12px 28px 24px\">\n<table role=\"presentation\" style=\"width:100%;border-collapse:collapse;table-layout:fixed\">\n\
         {rows}</table>\n</td></tr>\n</table>\n<p style=\"{FOOT}\">Sent by Upcall. Nobody reads answers to this mail.</p>\n</body>\n</html>\n"
    )
}

const BODY: &str = "margin:0;padding:32px 12px;background:#f2f4f7;color:#1d2733;\
    font:15px/1.5 -apple-system,'Segoe UI',Roboto,'Helvetica Neue','PingFang SC','Microsoft YaHei','Noto Sans CJK SC',Arial,sans-serif,'Apple Color Emoji','Segoe UI Emoji','Noto Color Emoji'";
const CARD: &str = "width:100%;max-width:600px;margin:0 auto;border-collapse:separate;border-spacing:0;background:#ffffff;\
    border:1px solid #dfe4ea;border-radius:10px;overflow:hidden";
const HEAD: &str = "padding:20px 28px 16px;border-top:4px solid #f26b21;border-bottom:1px solid #edf0f3;\
    font-size:19px;line-height:1.35;font-weight:600;overflow-wrap:anywhere;word-break:break-word";
const LABEL: &str =
    "width:92px;padding:7px 12px 7px 0;color:#66727f;vertical-align:top;overflow-wrap:anywhere;word-break:break-word";
const VALUE: &str = "padding:7px 0;vertical-align:top;overflow-wrap:anywhere;word-break:break-word";
const TEXT: &str = "padding:8px 0;overflow-wrap:anywhere;word-break:break-word";
const LIST: &str = "margin:8px 0 0;padding:8px 0 0 20px;border-top:1px solid #edf0f3";
const ITEM: &str = "padding:3px 0;overflow-wrap:anywhere;word-break:break-word";
const MORE: &str = "padding:3px 0;color:#66727f;list-style:none";
const BUTTON: &str = "display:inline-block;padding:9px 22px;border-radius:6px;background:#f26b21;color:#ffffff;\
    font-weight:600;text-decoration:none";
const FOOT: &str = "margin:16px auto 0;max-width:600px;text-align:center;font-size:12px;color:#8a95a1";

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
