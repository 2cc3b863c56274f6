//! Asking a node what a push would come to, before anything is sent.

use hot_artifact::Hazard;
use hot_proto::v1::{PlanRefusal, PlanRequest, PlanResponse};
use tonic::Code;

use crate::bundle::Signed;
use crate::exit::Exit;
use crate::failure::{Failure, detail, is_of_the_node};
use crate::follow::is_lost;
use crate::node::Client;
use crate::offer::named;

/// What the node says of these files and of what else is wished. `None`: it is an older one, which can't.
pub(crate) async fn ask(
    client: &Client,
    files: &[Signed],
    wish: PlanRequest,
) -> Result<Option<PlanResponse>, Failure> {
    match client.answer(client.plans().plan(request(files, wish))).await {
        Ok(mut answer) => {
            answer.refusals.splice(0..0, hazards(files));
            Ok(Some(answer))
        }
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(Failure::of_offer(&status)),
    }
}

/// What the node says of the push, and a failure where it would refuse it. A plan is advice: without one the push goes on, and
/// the node says what it has to say of the bytes.
pub(crate) async fn refused_early(
    client: &Client,
    files: &[Signed],
    wish: PlanRequest,
) -> Result<PlanResponse, Failure> {
    let mut known = PlanResponse { refusals: hazards(files), ..PlanResponse::default() };
    match client.answer(client.plans().plan(request(files, wish))).await {
        Ok(answer) => {
            known.refusals.extend(answer.refusals);
            known.modules = answer.modules;
        }
        Err(status) if status.code() == Code::Unimplemented || is_lost(&status) => {}
        Err(status) => return Err(Failure::of_offer(&status)),
    }
    failure(&known, files).map_or(Ok(known), Err)
}

/// What no node takes, whatever it has: known here.
fn hazards(files: &[Signed]) -> Vec<PlanRefusal> {
    let refusal = |index: u32, hazard: &Hazard| PlanRefusal {
        message: hazard.to_string(),
        error: Some(detail(hazard.refusal())),
        file: Some(index),
        node: String::new(),
    };
    let mut refusals = Vec::new();
    for (index, file) in (0..).zip(files) {
        refusals.extend(file.offer.inspection.hazards.iter().map(|hazard| refusal(index, hazard)));
    }
    refusals
}

fn request(files: &[Signed], wish: PlanRequest) -> PlanRequest {
    PlanRequest { files: files.iter().map(Signed::planned).collect(), ..wish }
}

/// The first refusal as a failure, which says how many more there are.
fn failure(answer: &PlanResponse, files: &[Signed]) -> Option<Failure> {
    let (first, rest) = answer.refusals.split_first()?;
    let mut failure = Failure { exit: exit(answer), ..Failure::of_refusal(first) };
    if let Some(file) = file_of(first, files) {
        failure = named(&file.offer.path, failure);
    }
    match rest.len() {
        0 => {}
        1 => failure.sentence.push_str(" (and one more reason: `hotctl plan` shows it)"),
        more => failure.sentence.push_str(&format!(" (and {more} more reasons: `hotctl plan` shows them)")),
    }
    Some(failure)
}

/// The file that a refusal is about.
pub(crate) fn file_of<'f>(refusal: &PlanRefusal, files: &'f [Signed]) -> Option<&'f Signed> {
    files.get(usize::try_from(refusal.file?).ok()?)
}

/// How a plan is told to the shell.
pub(crate) fn exit(answer: &PlanResponse) -> Exit {
    let code =
        |refusal: &PlanRefusal| refusal.error.as_ref().map(|error| error.code.clone()).unwrap_or_default();
    if answer.refusals.iter().any(|refusal| !is_of_the_node(&code(refusal))) {
        Exit::Refused
    } else if !answer.refusals.is_empty() {
        Exit::Failed
    } else if answer.modules.iter().any(|module| module.changes) {
        Exit::Changes
    } else {
        Exit::Success
    }
}

#[cfg(test)]
mod tests {
    use hot_proto::v1::{ErrorDetail, PlannedModule};

    use super::*;

    fn refusal(code: &str, message: &str) -> PlanRefusal {
        let error =
            ErrorDetail { code: code.to_owned(), advice: "mend it".to_owned(), ..ErrorDetail::default() };
        PlanRefusal { error: Some(error), message: message.to_owned(), ..PlanRefusal::default() }
    }

    #[tokio::test]
    async fn an_older_node_lets_the_push_go_on() {
        // The fake has no plans, as a node of before has none.
        let node = crate::fake::FakeNode::start(Default::default());
        let client = node.client().await;
        assert!(refused_early(&client, &[], PlanRequest::default()).await.is_ok());
        assert_eq!(ask(&client, &[], PlanRequest::default()).await.expect("no failure"), None);
    }

    #[test]
    fn a_refusal_comes_before_a_change() {
        let changes = |changes| PlannedModule { changes, ..PlannedModule::default() };
        let mut answer = PlanResponse::default();
        assert_eq!(exit(&answer).code(), 0);
        answer.modules = vec![changes(false)];
        assert_eq!(exit(&answer).code(), 0);
        answer.modules.push(changes(true));
        assert_eq!(exit(&answer).code(), 10);
        answer.refusals.push(refusal("spawn.lost", "nothing can be started"));
        assert_eq!(exit(&answer).code(), 1, "the offer is not to blame");
        answer.refusals.push(refusal("route_taken", "taken"));
        assert_eq!(exit(&answer).code(), 4);
        assert_eq!(
            failure(&answer, &[]).expect("refused").exit.code(),
            4,
            "one of both reasons is the offer's"
        );
    }

    #[test]
    fn a_push_says_the_first_reason_and_how_many_there_are() {
        let mut answer = PlanResponse::default();
        assert!(failure(&answer, &[]).is_none());
        answer.refusals.push(refusal("route_taken", "route /a is taken"));
        let one = failure(&answer, &[]).expect("refused");
        assert_eq!((one.exit.code(), one.code.as_str()), (4, "route_taken"));
        assert_eq!(one.sentence, "route /a is taken; mend it");
        answer.refusals.push(refusal("quarantined", "it failed"));
        let two = failure(&answer, &[]).expect("refused").sentence;
        assert!(two.ends_with("mend it (and one more reason: `hotctl plan` shows it)"), "{two}");
        answer.refusals.push(refusal("invalid", "a bad policy"));
        let three = failure(&answer, &[]).expect("refused").sentence;
        assert!(three.contains("and 2 more reasons"), "{three}");
    }
}
