use hot_proto::v1::{Outcome, Phase};

use super::*;
use crate::fake::{FakeNode, Script};
use crate::output::Format;
use crate::output::tests::Memory;
use crate::progress::examples;

fn at(phase: Phase) -> Rollout {
    let mut rollout = examples::baking();
    rollout.set_phase(phase);
    rollout
}

fn ended(outcome: Outcome, phase: Phase) -> Rollout {
    let mut rollout = at(phase);
    rollout.set_outcome(outcome);
    rollout
}

async fn followed(
    watches: Vec<Vec<Result<Rollout, Status>>>,
    format: Format,
    timeout: Option<Duration>,
) -> (Result<Exit, Failure>, String, usize) {
    let node = FakeNode::start(Script { watches: watches.into(), ..Script::default() });
    let memory = Memory::default();
    let mut out = Out::into_sink(format, memory.clone());
    let client = node.client().await;
    let exit = follow(&client, &mut out, at(Phase::Preparing), timeout, std::future::pending()).await;
    let watched = node.script().watched;
    (exit, memory.text(), watched)
}

#[tokio::test]
async fn ctrl_c_says_what_is_so_now() {
    let pressed = std::future::ready(());
    let left = unless(pressed, std::future::pending::<Result<(), _>>(), || unanswered("greeter")).await;
    let failure = left.expect_err("left");
    assert_eq!((failure.exit.code(), failure.code.as_str()), (5, "interrupted"));
    assert!(failure.sentence.contains("`hotctl status greeter` tells"), "{}", failure.sentence);
    let done = unless(std::future::pending(), async { Ok(7) }, || unanswered("greeter")).await;
    assert_eq!(done.expect("done"), 7);
}

#[tokio::test]
async fn changes_are_plain_lines_and_the_end_is_a_code() {
    let watch = vec![
        Ok(at(Phase::Preparing)),
        Ok(at(Phase::Baking)),
        Ok(at(Phase::Baking)),
        Ok(ended(Outcome::RolledBack, Phase::RolledBack)),
    ];
    let (exit, text, _) = followed(vec![watch], Format::Text, None).await;
    assert_eq!(exit.expect("follows").code(), 3);
    let lines: Vec<&str> = text.lines().map(|line| line.get(8..).unwrap_or(line)).collect();
    assert_eq!(
        lines[..2],
        ["greeter 1.1.0: preparing", "greeter 1.1.0: baking at 10%, step 1 of 3, for 30s",]
    );
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(text.lines().last(), Some("greeter 1.1.0 was taken back; greeter 1.0.0 (release 1) serves"));
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let watches = vec![
        vec![Ok(at(Phase::Baking)), Err(Status::unavailable("restarting"))],
        // Ended by the node without an outcome: it shuts down.
        vec![Ok(at(Phase::Baking))],
        vec![Err(Status::internal("h2 protocol error"))],
        vec![Ok(ended(Outcome::Done, Phase::Done))],
    ];
    let (exit, text, watched) = followed(watches, Format::Text, None).await;
    assert_eq!((exit.expect("follows").code(), watched), (0, 4));
    assert_eq!(text.matches("baking").count(), 1, "told once: {text}");
}

#[tokio::test]
async fn a_node_that_says_no_is_not_asked_again() {
    let watches = vec![vec![Err(Status::permission_denied("not yours"))]];
    let (exit, _, watched) = followed(watches, Format::Text, None).await;
    assert_eq!((exit.expect_err("fails").exit.code(), watched), (4, 1));
}

#[tokio::test]
async fn the_timeout_leaves_it_running() {
    // Every watch ends at once without an outcome, so following would go on until it is given up.
    let node = FakeNode::start(Script {
        watches: vec![vec![Ok(at(Phase::Baking))]; 100].into(),
        ..Script::default()
    });
    let (memory, hints) = (Memory::default(), Memory::default());
    let mut out = Out::into_sinks(Format::Text, memory.clone(), hints.clone());
    let timeout = Some(Duration::from_millis(50));
    let never = std::future::pending();
    let exit = follow(&node.client().await, &mut out, at(Phase::Baking), timeout, never).await;
    assert_eq!(exit.expect("ends").code(), 5);
    assert!(!memory.text().contains("not finished"), "a hint is no result: {}", memory.text());
    let hints = hints.text();
    let last = hints.lines().last().expect("a line");
    assert!(
        last.starts_with("not finished in time: ")
            && last.contains("hotctl status greeter --watch")
            && last.contains("hotctl abort greeter"),
        "{last}"
    );
}

#[tokio::test]
async fn ctrl_c_leaves_it_running() {
    let node = FakeNode::start(Script {
        watches: vec![vec![Ok(at(Phase::Baking))]; 100].into(),
        ..Script::default()
    });
    let (memory, hints) = (Memory::default(), Memory::default());
    let mut out = Out::into_sinks(Format::Text, memory.clone(), hints.clone());
    let pressed = std::future::ready(());
    let exit = follow(&node.client().await, &mut out, at(Phase::Baking), None, pressed).await;
    assert_eq!(exit.expect("ends").code(), 5);
    assert!(!memory.text().contains("you left"), "a hint is no result: {}", memory.text());
    let last = hints.text();
    assert!(
        last.starts_with("you left: rollout r-7 goes on; follow it with `hotctl status greeter --watch`"),
        "{last}"
    );
}

#[tokio::test]
async fn json_ends_with_the_outcome() {
    let watch = vec![Ok(at(Phase::Baking)), Ok(ended(Outcome::Aborted, Phase::RolledBack))];
    let (exit, text, _) = followed(vec![watch], Format::Json, None).await;
    assert_eq!(exit.expect("follows").code(), 3);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().expect("an event")).collect();
    assert_eq!(events, ["rollout", "rollout", "rollout", "ended"]);
    let last = lines.last().expect("a line");
    assert_eq!((last["outcome"].as_str(), last["exit_code"].as_u64()), (Some("aborted"), Some(3)));
    assert_eq!(last["rollout"]["modules"][0]["name"], "greeter");
}

#[tokio::test]
async fn another_node_tells_on_when_its_own_is_gone() {
    let watches = vec![vec![Ok(at(Phase::Baking))]];
    let first = FakeNode::start(Script { watches: watches.into(), goes_away: true, ..Script::default() });
    // It does not know of the rollout at once.
    let watches =
        vec![vec![Err(Status::not_found("no such rollout"))], vec![Ok(ended(Outcome::Done, Phase::Done))]];
    let second = FakeNode::start(Script { watches: watches.into(), ..Script::default() });
    let (memory, hints) = (Memory::default(), Memory::default());
    let mut out = Out::into_sinks(Format::Text, memory.clone(), hints.clone());
    let client = first.client_or(&[&second]).await;
    let exit = follow(&client, &mut out, at(Phase::Preparing), None, std::future::pending()).await;
    assert_eq!(exit.expect("follows").code(), 0);
    assert_eq!((first.script().watched, second.script().watched), (1, 2));
    let told = format!("the node at {} tells of it from here on", client.address());
    assert!(hints.text().contains(&told), "{}", hints.text());
}
