//! From what a report says to Markdown and HTML.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{
    AutoEscape, Environment, Error, HtmlEscape, Output, State, UndefinedBehavior, context,
    escape_formatter,
};

use super::markdown;
use super::page::Page;
use crate::failure::{Failure, Result};
use crate::visible::{visible, visible_prose};

const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";
/// How values go into Markdown.
const ESCAPED: AutoEscape = AutoEscape::Custom(Cow::Borrowed("markdown"));

/// As Markdown, with pictures beside it.
///
/// # Errors
/// The templates and what they are given do not fit.
pub(super) fn markdown(page: &Page) -> Result<String> {
    rendered(MARKDOWN, page)
}

/// As one page of HTML.
///
/// # Errors
/// As [`markdown`].
pub(super) fn html(page: &Page) -> Result<String> {
    rendered(HTML, page)
}

fn rendered(template: &str, page: &Page) -> Result<String> {
    let render = || -> Result<String, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .set_auto_escape_callback(|name| if name == HTML { AutoEscape::Html } else { ESCAPED });
        environment.set_formatter(formatted);
        environment.add_filter("block", |text: &str, language: &str| {
            Value::from_safe_string(markdown::block(text, language))
        });
        environment.add_filter("prose", |text: &str| {
            let shown = HtmlEscape(&visible_prose(text)).to_string();
            Value::from_safe_string(shown)
        });
        environment.add_template(MARKDOWN, include_str!("report.md.j2"))?;
        environment.add_template(HTML, include_str!("report.html.j2"))?;
        let style = include_str!("report.css");
        environment.get_template(template)?.render(context! { style, ..Value::from(Serde(page)) })
    };
    render().map_err(|error| Failure::new(format!("the template of the report: {error:#}")))
}

/// Whatever a template does not say is safe is shown as the text that it is.
fn formatted(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let is_markdown = *state.auto_escape() == ESCAPED;
    match value.as_str() {
        Some(text) if value.is_safe() => Ok(out.write_str(text)?),
        Some(text) if is_markdown => Ok(out.write_str(&markdown::inline(text))?),
        Some(text) => escape_formatter(out, state, &Value::from(visible(text).as_ref())),
        None if is_markdown => Ok(write!(out, "{value}")?),
        None => escape_formatter(out, state, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template that names what is not there fails here, not where it is used.
    #[test]
    fn a_report_on_nothing_is_rendered() {
        let page = Page::of(&[]).unwrap();
        assert!(html(&page).unwrap().contains("<title>0 runs</title>"));
        assert!(markdown(&page).unwrap().starts_with("# 0 runs\n"));
    }
}
