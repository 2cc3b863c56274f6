//! A plan as text.

use hot_proto::v1::{PlanRefusal, PlanResponse, PlannedModule, PlannedStep, PlannedUpload};

use crate::bundle::Signed;
use crate::output::{Tone, paint};
use crate::plan::file_of;
use crate::progress::named;
use crate::words;

/// What would change, module by module; or why nothing would, because it is refused.
pub(crate) fn lines(answer: &PlanResponse, files: &[Signed], colour: bool) -> Vec<String> {
    if !answer.refusals.is_empty() {
        let refusals = answer.refusals.iter().map(|of| words::clean(&refusal(of, files)));
        return refusals.map(|text| paint(&text, Tone::Bad, colour)).collect();
    }
    let mut lines = Vec::new();
    for module in &answer.modules {
        lines.push(paint(&words::clean(&title(module)), Tone::Strong, colour));
        if !module.supersedes.is_empty() {
            let text = format!("  rollout {} goes back first: this supersedes it", module.supersedes);
            lines.push(words::clean(&text));
        }
        lines.extend(module.steps.iter().map(|step| words::clean(&self::step(step))));
        lines.extend(losing(module).map(|text| format!("  {text}")));
        lines.extend(module.uploads.iter().filter_map(|of| Some(words::clean(&upload(of, files)?))));
    }
    lines
}

fn title(module: &PlannedModule) -> String {
    let PlannedModule { module: name, version, release, .. } = module;
    match &module.stable {
        None => format!("{name} {version} would be release {release}, the first one"),
        Some(stable) if module.changes => {
            format!("{name} {version} would be release {release}, after {}", named(stable))
        }
        Some(stable) => format!(
            "{name} {} is stable already: nothing would change (a push would make release {release} of the same bytes)",
            named(stable)
        ),
    }
}

/// Nodes that are named of many.
const NAMED: usize = 10;

/// That nodes lose the module, as the release is for others; nothing where none does.
pub(crate) fn losing(module: &PlannedModule) -> Option<String> {
    let PlannedModule { module, loses, .. } = module;
    let mut nodes = loses.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let end = match loses.len() {
        0 => return None,
        1 => "serves it now and will not any more",
        _ => "serve it now and will not any more",
    };
    if loses.len() > NAMED {
        nodes.push_str(&format!(" and {} more", loses.len() - NAMED));
    }
    let text = format!(
        "{module} ends on other nodes once this is promoted: {nodes} {end}, as they do not have the labels of --on"
    );
    Some(words::clean(&text))
}

fn step(step: &PlannedStep) -> String {
    let bake = step.bake.and_then(|bake| bake.try_into().ok()).map(words::span).unwrap_or_default();
    let weights = step.weights.iter().map(|of| format!("{} {}", of.node, words::share(of.weight)));
    let weights: Vec<String> = weights.collect();
    format!("  {:<7}for {bake:<8}{}", words::share(step.share), weights.join(", ")).trim_end().to_owned()
}

fn upload(upload: &PlannedUpload, files: &[Signed]) -> Option<String> {
    let file = &files.get(usize::try_from(upload.file).ok()?)?.offer;
    let size = words::size(file.inspection.size);
    let what = if upload.present { "the node has it already".to_owned() } else { format!("{size} to send") };
    let by = match upload.principal.as_str() {
        "" => String::new(),
        principal => format!(", signed by {principal}"),
    };
    Some(format!("  {}: {what}{by}", file.path.display()))
}

fn refusal(refusal: &PlanRefusal, files: &[Signed]) -> String {
    let place = file_of(refusal, files).map(|file| format!("{}: ", file.offer.path.display()));
    let node = if refusal.node.is_empty() { "every node" } else { &refusal.node };
    format!("refused by {node}: {}{}", place.unwrap_or_default(), refusal.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::examples;

    #[test]
    fn what_would_change_or_be_refused() {
        let mut plan = examples::plan();
        assert_eq!(lines(&plan, &[], false), ["refused by n1: route /greet is taken"], "no step of it comes");
        plan.refusals.clear();
        assert_eq!(
            lines(&plan, &[], false),
            [
                "greeter 1.1.0 would be release 3, after 1.0.0 (1)",
                "  rollout r-7 goes back first: this supersedes it",
                "  10%    for 30s     n1 10%",
                "  100%   for 1m30s   n1 100%",
                "  greeter ends on other nodes once this is promoted: n2, n3 serve it now and will not any more, as they do not have the \
                 labels of --on",
            ]
        );
        let mut module = plan.modules.remove(0);
        module.loses = (1..=12).map(|n| format!("n{n}")).collect();
        let many = losing(&module).expect("twelve lose it");
        assert!(many.contains("n9, n10 and 2 more serve it"), "{many}");
        module.loses.clear();
        assert_eq!(losing(&module), None);
    }

    #[test]
    fn a_first_release_and_no_change_are_said() {
        let mut plan = examples::plan();
        plan.modules[0].stable = None;
        assert_eq!(title(&plan.modules[0]), "greeter 1.1.0 would be release 3, the first one");
        let mut plan = examples::plan();
        plan.modules[0].changes = false;
        assert!(
            title(&plan.modules[0]).starts_with("greeter 1.0.0 (1) is stable already: nothing would change")
        );
    }
}
