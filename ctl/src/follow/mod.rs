//! Following a rollout to its end: reads the watch, goes on after a lost connection, prints what changed. A rollout
//! runs on the node; nothing here steers it.

use std::pin::pin;
use std::time::{Duration, Instant};

use hot_proto::v1::{
    GetModuleRequest, Rollout, RolloutSelector, WatchRolloutRequest, WatchRolloutResponse, rollout_selector,
};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::{Code, Status, Streaming};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RolloutJson;
use crate::node::{Address, Client};
use crate::output::{Out, OutputError, paint};
use crate::{progress, show, words};

/// How long a node may be silent before following is given up. A restart of `hotd` takes a second.
const LOST_DEADLINE: Duration = Duration::from_secs(60);

/// Between two attempts to reach a lost node.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One line of `-o json` while a rollout runs. `event` tells the kinds apart.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum FollowJson {
    /// It changed.
    Rollout { rollout: Box<RolloutJson> },
    /// The last line: it ended, or was left.
    Ended { outcome: Option<&'static str>, exit_code: u8, rollout: Box<RolloutJson> },
}

/// Why following ended.
enum Left {
    /// The rollout ended.
    Ended,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The time that the user gave is over.
    TimedOut,
}

/// Ctrl-C, heard from the moment of its making: one that comes while the node starts a rollout is not lost.
#[derive(Debug)]
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, Failure> {
        signal(SignalKind::interrupt()).map(Self).map_err(|error| {
            Failure::failed("signals", format!("can't listen for Ctrl-C: {error}; use --detach"))
        })
    }

    /// Ends when the user has pressed Ctrl-C.
    pub(crate) async fn pressed(&mut self) {
        if self.0.recv().await.is_none() {
            // No more signals will come; the rollout is followed all the same.
            std::future::pending().await
        }
    }
}

/// What comes of `work`, unless Ctrl-C comes first: then it fails with `left`, which says what is so now.
pub(crate) async fn unless<T>(
    pressed: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, Failure>>,
    left: impl FnOnce() -> Failure,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = pressed => Err(left()),
    }
}

/// Ctrl-C while the node has not answered yet to what was asked of a rollout of `module`: it may do it all the same.
pub(crate) fn unanswered(module: &str) -> Failure {
    let sentence = format!(
        "you left before the node answered: whether it does what was asked is not known here; `hotctl status {module}` \
         tells, `hotctl abort {module}` takes a running rollout back"
    );
    Failure::new(Exit::Unfinished, "interrupted", sentence)
}

/// Follows `rollout` until it ends, `timeout` is over or `interrupt` is, and tells how it ended. The rollout
/// goes on in the latter two cases.
pub(crate) async fn follow(
    client: &Client,
    out: &mut Out,
    rollout: Rollout,
    timeout: Option<Duration>,
    interrupt: impl Future<Output = ()>,
) -> Result<Exit, Failure> {
    // A rollout is worth its exit code even when nobody reads the progress.
    out.outlive_reader();
    let asked = client.address().clone();
    let mut follower = Follower { client, out, shown: None, now: rollout, since: Instant::now(), asked };
    follower.show()?;
    let left = {
        let mut deadline = pin!(async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            ended = follower.read_to_end() => { ended?; Left::Ended }
            () = interrupt => Left::Interrupted,
            () = &mut deadline => Left::TimedOut,
        }
    };
    follower.finish(&left).await
}

struct Follower<'a> {
    client: &'a Client,
    out: &'a mut Out,
    /// What the last printed change showed.
    shown: Option<Rollout>,
    now: Rollout,
    since: Instant,
    /// The node that it was asked of last.
    asked: Address,
}

impl Follower<'_> {
    /// Reads until the outcome is there.
    async fn read_to_end(&mut self) -> Result<(), Failure> {
        let mut heard = Instant::now();
        let mut told = false;
        while self.now.outcome == 0 {
            let lost = match self.read(&mut heard).await {
                Ok(()) => continue,
                Err(ReadError::Output(error)) => return Err(error.into()),
                Err(ReadError::Node(status)) if !self.is_worth_another(&status) => {
                    return Err(Failure::of_command(&status));
                }
                Err(ReadError::Node(status)) => status,
            };
            if heard.elapsed() > LOST_DEADLINE {
                return Err(self.given_up(&lost));
            }
            if !std::mem::replace(&mut told, true) {
                self.out.hint(&format!(
                    "lost the node ({}); the rollout goes on there, trying again",
                    lost.message()
                ));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(())
    }

    /// Opens one watch and reads it until it ends.
    async fn read(&mut self, heard: &mut Instant) -> Result<(), ReadError> {
        let request = WatchRolloutRequest { rollout: Some(by_id(&self.now.id)) };
        let mut stream: Streaming<WatchRolloutResponse> =
            self.client.answer(self.client.rollouts().watch(request)).await?;
        while let Some(message) = stream.message().await? {
            *heard = Instant::now();
            if self.client.address() != &self.asked {
                self.asked = self.client.address().clone();
                self.out.hint(&format!("the node at {} tells of it from here on", self.asked));
            }
            if let Some(rollout) = message.rollout {
                self.now = rollout;
                self.show()?;
            }
        }
        if self.now.outcome == 0 {
            return Err(ReadError::Node(Status::unavailable("the node ended the watch")));
        }
        Ok(())
    }

    /// Whether to ask again. A node that is asked in another one's place may not know of the rollout yet.
    fn is_worth_another(&self, status: &Status) -> bool {
        let is_elsewhere = self.client.address() != &self.asked;
        is_lost(status) || (is_elsewhere && status.code() == Code::NotFound)
    }

    /// Prints what changed and redraws the block.
    fn show(&mut self) -> Result<(), OutputError> {
        if let Some(line) = progress::change(self.shown.as_ref(), &self.now) {
            if self.out.json() {
                self.out.object(&FollowJson::Rollout { rollout: Box::new(self.now.clone().into()) })?;
            } else if self.now.outcome == 0 {
                // The end has a sentence of its own.
                self.out.text(&format!("{:>6}  {line}", words::span(self.since.elapsed())))?;
            }
            self.shown = Some(self.now.clone());
        }
        let lines = if self.now.outcome == 0 {
            progress::block(&self.now, self.out.width(), self.out.colour())
        } else {
            vec![]
        };
        self.out.redraw(&lines)
    }

    /// Tells how it ended, or how to go on.
    async fn finish(&mut self, left: &Left) -> Result<Exit, Failure> {
        let exit = Exit::of(self.now.outcome());
        if self.out.json() {
            let rollout = Box::new(RolloutJson::from(self.now.clone()));
            let outcome = words::outcome(self.now.outcome);
            self.out.object(&FollowJson::Ended { outcome, exit_code: exit.code(), rollout })?;
            return Ok(exit);
        }
        self.out.redraw(&[])?;
        match left {
            Left::Ended => {
                if exit != Exit::Success {
                    self.show_last_lines().await?;
                }
                // The last line is how it ended.
                let (sentence, tone) = progress::ending(&self.now);
                self.out.text(&paint(&sentence, tone, self.out.colour()))?;
            }
            Left::Interrupted => self.out.hint(&self.goes_on("you left")),
            Left::TimedOut => self.out.hint(&self.goes_on("not finished in time")),
        }
        Ok(exit)
    }

    /// What the candidate's instances printed last, where they failed. Only what it is good to know besides: a node that
    /// can't say it any more changes nothing.
    async fn show_last_lines(&mut self) -> Result<(), Failure> {
        for of in self.now.modules.clone() {
            let Some(candidate) = of.candidate else { continue };
            let request = GetModuleRequest { module: of.module };
            let Ok(answer) = self.client.answer(self.client.modules().get(request)).await else { continue };
            let nodes = answer.module.map(|module| module.nodes).unwrap_or_default();
            let failed = nodes.iter().flat_map(|node| &node.instances);
            for instance in failed.filter(|instance| instance.release == candidate.release) {
                for line in show::last_lines(instance, self.out.layout()) {
                    self.out.text(&line)?;
                }
            }
        }
        Ok(())
    }

    fn goes_on(&self, why: &str) -> String {
        let module = self.now.modules.first().map_or("MODULE", |module| module.module.as_str());
        format!(
            "{why}: rollout {} goes on; follow it with `hotctl status {module} --watch`, take it back with \
             `hotctl abort {module}`",
            self.now.id
        )
    }

    /// Who was asked.
    fn whom(&self) -> String {
        if self.client.has_others() {
            format!("any node of {}", self.client.found().how)
        } else {
            self.client.address().to_string()
        }
    }

    fn given_up(&self, status: &Status) -> Failure {
        Failure::new(
            Exit::Unfinished,
            "connection_lost",
            format!(
                "{} has not answered for {} ({}); {}",
                self.whom(),
                words::span(LOST_DEADLINE),
                status.message(),
                self.goes_on("how it ends is not known here")
            ),
        )
    }
}

/// Why one watch ended.
enum ReadError {
    Node(Status),
    Output(OutputError),
}

impl From<Status> for ReadError {
    fn from(status: Status) -> Self {
        Self::Node(status)
    }
}

impl From<OutputError> for ReadError {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

/// The rollout with this id.
pub(crate) fn by_id(id: &str) -> RolloutSelector {
    RolloutSelector { by: Some(rollout_selector::By::Id(id.to_owned())) }
}

/// The running rollout of this module, else its latest.
pub(crate) fn by_module(module: &str) -> RolloutSelector {
    RolloutSelector { by: Some(rollout_selector::By::Module(module.to_owned())) }
}

/// The connection broke or the node went away, rather than said no: worth another attempt. A broken HTTP/2 stream is
/// told as one of these, depending on where it broke.
pub(crate) fn is_lost(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
    )
}

#[cfg(test)]
mod tests;
