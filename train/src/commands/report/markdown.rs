//! Text of others in Markdown: shown as it is, whatever it holds.

use crate::visible::visible;

/// Text within a line: no markup, no line break.
pub(super) fn inline(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in visible(text).chars() {
        match letter {
            '\n' | '\r' | '\t' => escaped.push(' '),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A block of text between fences that are longer than any in it.
pub(super) fn block(text: &str, language: &str) -> String {
    let text = visible(text);
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_none() {
        assert_eq!(
            inline("a|b *c* <img src=x> &amp; [d](e)\n`f`\u{1b}"),
            "a\\|b \\*c\\* &lt;img src=x&gt; &amp;amp; \\[d\\](e) \\`f\\`\\\\u{1b}"
        );
    }

    #[test]
    fn nothing_in_a_block_ends_it() {
        assert_eq!(block("a\n", "toml"), "```toml\na\n```");
        assert_eq!(block("x\n```\n<b>", ""), "````\nx\n```\n<b>\n````");
    }
}
