//! What a host has said of itself, and what it can't have said: its module shares its sockets, and may write on them.
//!
//! A module that forges every message as its host would send it can't be told from a host. One that says what no host
//! says, or claims to be ready while its host says that it is not, can.

use hot_wire::host::{FromHost, HealthReply, Phase, Stage, ToHost};

/// What one host has claimed so far.
#[derive(Debug)]
pub(super) struct Claims {
    /// An earlier `hotd` started it, and may have heard the first of it.
    adopted: bool,
    hello: bool,
    confined: bool,
    ready: bool,
    /// It was told to stop.
    told_to_stop: bool,
    /// It has said to this `hotd` that it is not stopping.
    goes_on: bool,
    /// The question that was asked last.
    asked: Option<u64>,
    /// The first one since it said that it is ready.
    asked_ready: Option<u64>,
}

impl Claims {
    pub(super) fn new(adopted: bool) -> Self {
        Self {
            adopted,
            hello: false,
            confined: false,
            ready: false,
            told_to_stop: false,
            goes_on: false,
            asked: None,
            asked_ready: None,
        }
    }

    /// The host is asked or told something.
    pub(super) fn told(&mut self, message: &ToHost) {
        match message {
            ToHost::Health { seq } => {
                self.asked = Some(*seq);
                if self.ready {
                    self.asked_ready.get_or_insert(*seq);
                }
            }
            ToHost::Stop { .. } => self.told_to_stop = true,
            ToHost::Start(_) | ToHost::Attach { .. } | ToHost::Metrics { .. } => {}
        }
    }

    /// Takes what it says, or says why no host would say it.
    pub(super) fn heard(&mut self, message: &FromHost) -> Result<(), String> {
        let known = self.hello || self.adopted;
        match message {
            FromHost::Hello { .. } if self.hello => Err(twice("Hello")),
            FromHost::Hello { .. } => {
                self.hello = true;
                Ok(())
            }
            _ if !known => Err("a message before its `Hello`, which comes first".to_owned()),
            FromHost::Confined { .. } if self.ready => {
                Err("`Confined` after `Ready`, expected before".to_owned())
            }
            FromHost::Confined { .. } if self.confined => Err(twice("Confined")),
            FromHost::Confined { .. } => {
                self.confined = true;
                Ok(())
            }
            FromHost::Ready { .. } if self.ready => Err(twice("Ready")),
            FromHost::Ready { .. } => {
                (self.ready, self.goes_on) = (true, true);
                Ok(())
            }
            FromHost::Health(reply) => self.answered(reply),
            FromHost::Failed { .. } if self.ready => {
                Err("`Failed` after `Ready`, expected either".to_owned())
            }
            // What is confined as it must be did not fail at that, and one that is not is ended for it.
            FromHost::Failed { stage: Stage::Confine, .. } if self.confined => {
                Err("that it can't confine itself, after it had".to_owned())
            }
            FromHost::Stopped if !self.may_stop() => Err(unasked()),
            FromHost::Failed { .. } | FromHost::Metrics(_) | FromHost::Stopped => Ok(()),
        }
    }

    /// An answer to a question of a `hotd` before this one may come late, and says how it was then.
    fn answered(&mut self, reply: &HealthReply) -> Result<(), String> {
        if !self.adopted && self.asked.is_none() {
            return Err("an answer to a question that was not asked".to_owned());
        }
        let since_ready = self
            .asked_ready
            .zip(self.asked)
            .is_some_and(|(first, last)| reply.seq.wrapping_sub(first) <= last.wrapping_sub(first));
        match reply.phase {
            Phase::Waiting | Phase::Starting if since_ready => Err(
                "`Ready`, while the host itself answers that it is still starting: expected it once `start` has returned"
                    .to_owned(),
            ),
            Phase::Stopping if !self.may_stop() => Err(unasked()),
            Phase::Stopping => Ok(()),
            Phase::Waiting | Phase::Starting | Phase::Ready => {
                self.goes_on = true;
                Ok(())
            }
        }
    }

    /// Whether somebody may have told it to stop: this `hotd`, or one before it.
    fn may_stop(&self) -> bool {
        self.told_to_stop || (self.adopted && !self.goes_on)
    }
}

fn unasked() -> String {
    "that it stops, although nobody told it to".to_owned()
}

fn twice(what: &str) -> String {
    format!("a second `{what}`, expected one")
}

#[cfg(test)]
mod tests {
    use hot_wire::PROTOCOL;
    use hot_wire::host::Features;
    use hot_wire::isolation::Parts;

    use super::*;

    fn hello() -> FromHost {
        FromHost::Hello { protocol: PROTOCOL, pid: 1, features: Features::default() }
    }

    fn ready() -> FromHost {
        FromHost::Ready { abi: 1 }
    }

    fn reply(seq: u64, phase: Phase) -> FromHost {
        FromHost::Health(HealthReply {
            seq,
            phase,
            ok: true,
            text: String::new(),
            in_flight: 0,
            oldest_ms: 0,
            features: Features::default(),
            parts: Parts::NONE,
        })
    }

    /// What is wrong with the last of these, after the others were right.
    fn wrong(adopted: bool, said: &[FromHost]) -> Option<String> {
        let mut claims = Claims::new(adopted);
        let (last, before) = said.split_last().expect("something is said");
        for message in before {
            claims.heard(message).expect("it is in turn");
        }
        claims.heard(last).err()
    }

    #[test]
    fn a_host_says_each_thing_once_and_in_its_turn() {
        let confined = || FromHost::Confined { parts: Parts::NONE };
        let failed = |stage| FromHost::Failed { stage, text: String::new() };
        assert_eq!(wrong(false, &[hello(), confined(), ready()]), None);
        assert_eq!(wrong(false, &[hello(), failed(Stage::Confine)]), None);
        assert_eq!(wrong(false, &[hello(), confined(), failed(Stage::Start)]), None);
        for said in [
            vec![ready()],
            vec![hello(), hello()],
            vec![hello(), confined(), confined()],
            vec![hello(), ready(), confined()],
            vec![hello(), ready(), ready()],
            vec![hello(), reply(0, Phase::Starting)],
            vec![hello(), confined(), failed(Stage::Confine)],
            vec![hello(), confined(), ready(), failed(Stage::Start)],
            vec![hello(), confined(), ready(), FromHost::Stopped],
        ] {
            assert!(wrong(false, &said).is_some(), "{said:?}");
        }
        assert_eq!(wrong(true, &[reply(3, Phase::Starting), ready()]), None, "its hello was heard before");
    }

    #[test]
    fn a_ready_that_the_host_itself_denies_is_forged() {
        let mut claims = Claims::new(false);
        claims.heard(&hello()).unwrap();
        claims.heard(&ready()).unwrap();
        claims.told(&ToHost::Health { seq: u64::MAX });
        claims.told(&ToHost::Health { seq: 0 });
        assert_eq!(claims.heard(&reply(u64::MAX, Phase::Ready)), Ok(()));
        assert!(claims.heard(&reply(0, Phase::Starting)).is_err());
        assert!(claims.heard(&reply(u64::MAX, Phase::Waiting)).is_err());
    }

    #[test]
    fn who_was_not_told_to_stop_does_not() {
        let mut claims = Claims::new(false);
        claims.heard(&hello()).unwrap();
        claims.heard(&ready()).unwrap();
        claims.told(&ToHost::Health { seq: 1 });
        assert!(claims.heard(&reply(1, Phase::Stopping)).is_err());
        claims.told(&ToHost::Stop { grace_ms: 1 });
        assert_eq!(claims.heard(&reply(1, Phase::Stopping)), Ok(()));
        assert_eq!(claims.heard(&FromHost::Stopped), Ok(()));
        // A hotd before this one may have told it so, unless it has said since that it goes on.
        let mut claims = Claims::new(true);
        claims.told(&ToHost::Health { seq: 1 });
        assert_eq!(claims.heard(&reply(1, Phase::Stopping)), Ok(()));
        assert_eq!(claims.heard(&reply(1, Phase::Ready)), Ok(()));
        assert!(claims.heard(&reply(1, Phase::Stopping)).is_err());
    }

    /// What an adopted host was asked before it was ready, it may answer as it was then.
    #[test]
    fn an_answer_to_an_older_question_is_no_lie() {
        let mut claims = Claims::new(true);
        claims.told(&ToHost::Health { seq: 7 });
        claims.heard(&ready()).unwrap();
        assert_eq!(claims.heard(&reply(7, Phase::Starting)), Ok(()));
        claims.told(&ToHost::Health { seq: 8 });
        assert_eq!(claims.heard(&reply(7, Phase::Starting)), Ok(()));
        assert!(claims.heard(&reply(8, Phase::Starting)).is_err());
    }
}
