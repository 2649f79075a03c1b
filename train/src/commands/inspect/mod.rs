//! `deepseek inspect`: what a checkpoint makes of a text, token by token and layer by layer, and
//! what if its routers chose otherwise.

mod lines;
mod tables;

use std::path::Path;
use std::sync::Arc;

use burn_deepseek::routing::GivenChoices;
use burn_deepseek::weights::read_regular_text;
use serde_json::json;

use self::lines::write_lines;
use self::tables::Shown;
use super::new_folder::check_new_files;
use super::routing_files::check_routing_files;
use crate::cli::InspectArgs;
use crate::data::Window;
use crate::exit::Outcome;
use crate::failure::{Blame, Context, Result, UsageError, of_reading};
use crate::fold::{fold_on_terminal, width};
use crate::microscope::{Look, Microscope, Moved, Text};
use crate::model_folder::named;
use crate::routing::{MadeBy, Place, RoutingShape, RoutingWriter, SavedRouting};
use crate::stdout::write_stdout;

/// Bytes of a file of text at most: more than any model has positions for.
const MOST_BYTES: u64 = 16 << 20;

/// Looks at a text.
///
/// # Errors
/// A checkpoint, text, layer, change or file of routings that does not fit
/// ([`crate::exit::USAGE`]); a checkpoint that cannot be read, or a file that cannot be written
/// ([`crate::exit::FAILURE`]).
pub fn run(args: &InspectArgs) -> Result<Outcome> {
    let selected = args.device.open()?;
    let mut scope =
        Microscope::open(&named(&args.checkpoint, args.best)?, args.weights(), &selected)?;
    let model = scope.config().clone();
    check_routing_files(
        &model,
        args.routing.as_deref(),
        args.routing_out.as_deref().map(|path| ("--routing-out", path)),
    )?;
    check_new_files([("--out", args.out.as_ref()), ("--routing-out", args.routing_out.as_ref())])?;
    check_layer(args.layer, &model.moe_layer_indices())?;
    let text = scope.text(&read_text(args)?, model.max_position_embeddings)?;
    let what_if = args.what_if();
    if let Some(what_if) = &what_if {
        what_if.change().check(&model).map_err(crate::microscope::MicroscopeError::from)?;
    }
    let other = match &args.other {
        None => None,
        Some(path) => {
            let other = Microscope::open(path, args.weights(), &selected)
                .with_context(|| format!("--other {}", path.display()))?;
            scope.check_beside(&other)?;
            Some(other)
        }
    };
    let shape = RoutingShape::of(&model);
    let given = given(args.routing.as_deref(), &shape, &text)?;

    let base = scope.look(&text, &args.base(), given.clone())?;
    let changed = what_if.as_ref().map(|what_if| scope.look(&text, what_if, given.clone()));
    let changed = changed.transpose()?;
    let beside = match other {
        None => None,
        Some(mut other) => Some((other.path(), other.look(&text, &args.base(), given)?)),
    };

    let shown = Shown { scope: &scope, text: &text, base: &base, width: width() };
    let mut said = shown.heading();
    match args.layer {
        None => said += &shown.experts(),
        Some(layer) => said += &shown.layer(layer),
    }
    if let (Some(what_if), Some(changed)) = (&what_if, &changed) {
        said += &shown.what_if(what_if, changed);
    }
    if let Some((path, look)) = &beside {
        said += &shown.beside(path, look);
    }
    let mut ending = String::new();
    if let Some(path) = &args.out {
        let other = beside.as_ref().map(|(path, look)| (path.as_path(), look));
        let what_if = what_if.as_ref().zip(changed.as_ref());
        write_lines(path, &scope, &text, &base, what_if, other)?;
        ending += &format!("written     {}\n", path.display());
    }
    if let Some(path) = &args.routing_out {
        let bytes = save_routing(path, &shape, &text, &base).context("--routing-out")?;
        ending += &format!("routing     {}, {bytes} bytes\n", path.display());
    }
    write_stdout(&(said + &fold_on_terminal(ending)))?;
    Ok(Outcome::done(json!({
        "command": "inspect",
        "checkpoint": scope.path(),
        "step": scope.step(),
        "device": selected.name,
        "format": base.format,
        "tokens": text.tokens.len(),
        "mean_loss": base.inspection.mean_loss(),
        "mtp_agreement": mtp_agreement(&base),
        "layers": base.layers(),
        "what_if": changed.as_ref().map(|changed| beside_of(&base, changed)),
        "other": beside.as_ref().map(|(path, look)| {
            let mut object = beside_of(&base, look);
            object["checkpoint"] = json!(path);
            object
        }),
        "ema": args.ema,
        "out": args.out,
        "routing": args.routing,
        "routing_out": args.routing_out,
    })))
}

/// For each MTP depth the share of the tokens that it predicts in which it agrees with the main
/// model; null where it predicts none.
fn mtp_agreement(look: &Look) -> Vec<Option<f64>> {
    let tokens = look.inspection.greedy.len();
    let of_depth = |k: usize| {
        let said: Vec<bool> =
            (0..tokens).filter_map(|token| look.inspection.mtp_agrees(k, token)).collect();
        let agreed = said.iter().filter(|agrees| **agrees).count();
        (!said.is_empty()).then(|| agreed as f64 / said.len() as f64)
    };
    (1..=look.inspection.mtp_greedy.len()).map(of_depth).collect()
}

/// Another look as programs want it.
fn beside_of(base: &Look, look: &Look) -> serde_json::Value {
    let moved = Moved::between(base, look);
    json!({
        "format": look.format,
        "mean_loss": look.inspection.mean_loss(),
        "mean_loss_change": moved.mean_loss_change,
        "layers": moved.layers,
        "moved_tokens": moved.tokens.len(),
    })
}

fn read_text(args: &InspectArgs) -> Result<String> {
    let Some(path) = &args.text else { return Ok(args.prompt.clone().unwrap_or_default()) };
    match read_regular_text(path, MOST_BYTES) {
        Err(error) if of_reading(&error) == Blame::User => {
            Err(UsageError(format!("--text {}: {error}", path.display())).into())
        }
        result => result.with_context(|| format!("--text {}", path.display())),
    }
}

fn check_layer(layer: Option<usize>, layers: &[usize]) -> Result<(), UsageError> {
    match layer {
        Some(layer) if !layers.contains(&layer) => {
            let known: Vec<String> = layers.iter().map(ToString::to_string).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let problem =
                format!("--layer {layer}: it has no routed experts; layers that have: {known}");
            Err(UsageError(problem))
        }
        _ => Ok(()),
    }
}

/// The text as the one window of a file of routings.
fn window(text: &Text) -> Window {
    Window { tokens: text.tokens.clone(), sample: 0 }
}

/// The choices of a saved routing of this text.
fn given(
    path: Option<&Path>,
    shape: &RoutingShape,
    text: &Text,
) -> Result<Option<Arc<GivenChoices>>> {
    let Some(path) = path else { return Ok(None) };
    let mut saved = SavedRouting::open(path, shape, MadeBy::Inspect).context("--routing")?;
    let windows = [window(text)];
    let choices = saved.choices(Place::evaluation(0), &windows, text.tokens.len(), true);
    Ok(Some(Arc::new(choices.context("--routing")?)))
}

/// Saves the routing of a look; the bytes of the file.
fn save_routing(path: &Path, shape: &RoutingShape, text: &Text, look: &Look) -> Result<u64> {
    let mut writer = RoutingWriter::create(path, shape, MadeBy::Inspect)?;
    let records = &look.inspection.layers;
    writer.write(Place::evaluation(0), &[window(text)], text.tokens.len(), records)?;
    Ok(writer.finish()?)
}
