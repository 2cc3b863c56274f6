//! Uploads over gRPC as a hostile world makes them: cut off, resumed, doubled, wrong, slow and abandoned. And a request
//! that comes more than once is one rollout.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use hot_proto::v1::UploadHeader;
use hot_proto::v1::upload_request::Part;
use hot_tests::{Door, Event, Key, Node, Sending, Series, Service, WAIT, abandon, sha256, start};
use serde_json::Value;
use tonic::{Code, Status};

/// Bytes of a chunk: the module of these tests has several.
const CHUNK: usize = 4096;

/// A file that is signed and yet to be uploaded.
struct Offer {
    bytes: Vec<u8>,
    signature: Vec<u8>,
    version: String,
}

impl Offer {
    fn new(series: &Series, key: &Key, number: usize) -> Result<Self> {
        let version = series.write(number)?;
        let signature = series.file().with_extension("signature");
        key.sign("hot-module", series.file(), &signature)?;
        let (bytes, signature) = (fs::read(series.file())?, fs::read(signature)?);
        ensure!(bytes.len() > 3 * CHUNK, "{} bytes are no test", bytes.len());
        Ok(Self { bytes, signature, version })
    }

    fn header(&self, offset: u64) -> UploadHeader {
        UploadHeader {
            digest: sha256(&self.bytes),
            size: self.bytes.len() as u64,
            offset,
            signature: self.signature.clone(),
            ..UploadHeader::default()
        }
    }

    fn there(&self, door: &Door) -> Result<u64, Status> {
        door.begin(&sha256(&self.bytes), self.bytes.len() as u64)
    }

    /// Waits until the node has so many bytes.
    fn wait_there(&self, door: &Door, bytes: usize) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        while self.there(door)? != bytes as u64 {
            ensure!(Instant::now() < deadline, "the node has {} bytes, expected {bytes}", self.there(door)?);
        }
        Ok(())
    }

    /// Sends what lacks, as `hotctl` does it: again as long as somebody else sends the same. Whether it was there.
    fn send_rest(&self, door: &Door) -> Result<bool> {
        let deadline = Instant::now() + WAIT;
        loop {
            let offset = self.there(door)?;
            let sending = Sending::begin(door, self.header(offset))?;
            self.bytes[usize::try_from(offset)?..].chunks(CHUNK).for_each(|chunk| sending.chunk(chunk));
            match sending.finish() {
                Ok(answer) => return Ok(answer.already_had),
                Err(refused) => {
                    let code = hot_proto::status::detail(&refused).context("details")?.code;
                    let overtaken = code == "offset_mismatch" || code == "upload_overtaken";
                    ensure!(overtaken && Instant::now() < deadline, "{refused}");
                }
            }
        }
    }
}

/// What a refusal says: its code and its sentence.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Result<(String, String)> {
    let status = answer.err().context("the node took it")?;
    let detail = hot_proto::status::detail(&status).with_context(|| format!("no details in {status:?}"))?;
    Ok((detail.code, status.message().to_owned()))
}

fn node() -> Result<(Node, Series)> {
    let node = Node::start()?;
    let series = Series::new(node.scratch())?;
    Ok((node, series))
}

#[test]
fn an_upload_that_is_cut_after_any_chunk_goes_on_there() -> Result<()> {
    let (mut node, series) = node()?;
    let chunks = Offer::new(&series, &node.key(), 100)?.bytes.len().div_ceil(CHUNK);
    for cut in 0..=chunks {
        // Cut off by the client, then by the end of the daemon.
        for killed in [false, true] {
            let offer = Offer::new(&series, &node.key(), 100 + 2 * cut + usize::from(killed))?;
            let sending = Sending::begin(&node.door()?, offer.header(0))?;
            offer.bytes.chunks(CHUNK).take(cut).for_each(|chunk| sending.chunk(chunk));
            let sent = offer.bytes.len().min(cut * CHUNK);
            offer.wait_there(&node.door()?, sent)?;
            if killed {
                node.kill_daemon()?;
                node.start_again()?;
            }
            drop(sending);
            ensure!(offer.there(&node.door()?)? == sent as u64, "after {cut} chunks, killed: {killed}");
            ensure!(!offer.send_rest(&node.door()?)?, "it was not there");
        }
    }
    node.stop()
}

#[test]
fn two_that_go_on_with_one_upload_at_once_make_one_version() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    let first = Sending::begin(&door, offer.header(0))?;
    first.chunk(&offer.bytes[..CHUNK]);
    offer.wait_there(&door, CHUNK)?;
    let second = Sending::begin(&door, offer.header(CHUNK as u64))?;
    second.chunk(&offer.bytes[CHUNK..2 * CHUNK]);
    offer.wait_there(&door, 2 * CHUNK)?;
    first.chunk(&offer.bytes[CHUNK..2 * CHUNK]);
    let (code, said) = refused(first.finish())?;
    ensure!(code == "offset_mismatch", "{code}: {said}");
    ensure!(said.contains("starts at byte 4096; go on at byte 8192"), "{said}");
    offer.bytes[2 * CHUNK..].chunks(CHUNK).for_each(|chunk| second.chunk(chunk));
    ensure!(!second.finish()?.already_had);

    for number in 101..111 {
        let offer = Offer::new(&series, &node.key(), number)?;
        let had = thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| offer.send_rest(&door)));
            both.map(|sender| sender.join().expect("a sender that does not panic"))
        });
        let [first, second] = had;
        ensure!(first? != second?, "exactly one of both made {}", offer.version);
    }
    node.stop()
}

#[test]
fn what_is_wrong_with_an_upload_is_said_and_costs_nothing() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    let size = offer.bytes.len();
    let attempt = |change: &dyn Fn(&mut UploadHeader), parts: &[&[u8]]| -> Result<(String, String)> {
        let mut header = offer.header(0);
        change(&mut header);
        let sending = Sending::begin(&door, header)?;
        parts.iter().for_each(|part| sending.chunk(part));
        refused(sending.finish())
    };
    let whole = &*offer.bytes;
    let other = vec![1; size];
    let as_is = |_: &mut UploadHeader| ();
    type Change<'a> = &'a dyn Fn(&mut UploadHeader);
    let cases: [(Change<'_>, &[&[u8]], &str, &str); 9] = [
        (
            &|header| header.offset = 1,
            &[whole],
            "offset_mismatch",
            "the piece starts at byte 1; go on at byte 0",
        ),
        (&|header| header.offset = u64::MAX, &[whole], "offset_mismatch", "go on at byte 0"),
        (&|header| header.size = 0, &[], "size_mismatch", "the file is empty"),
        (&|header| header.size = u64::MAX, &[whole], "file.too_large", "this node takes at most"),
        (&as_is, &[whole, b"x"], "size_mismatch", "and the file was said to have"),
        (&as_is, &[b""], "invalid", "expected 1 to 262144 bytes"),
        (&as_is, &[&[0; hot_proto::MAX_CHUNK + 1]], "invalid", "expected 1 to 262144 bytes"),
        (&as_is, &[&other], "digest_mismatch", "upload them again from the start"),
        (&as_is, &[&whole[..CHUNK]], "upload_incomplete", "go on at byte 4096"),
    ];
    for (change, parts, code, sentence) in cases {
        // What an attempt before left is the rest's beginning, which is no mistake.
        let part = node.data_dir().join(format!("spool/{}.part", sha256(&offer.bytes)));
        fs::remove_file(part).ok();
        let (found, said) = attempt(change, parts)?;
        ensure!(
            found == code && said.contains(sentence),
            "found {found}: {said}\nexpected {code}: {sentence}"
        );
    }
    let sending = Sending::begin(&door, offer.header(CHUNK as u64))?;
    sending.send(Part::Header(offer.header(0)));
    let (code, said) = refused(sending.finish())?;
    ensure!(code == "invalid" && said.contains("a second header"), "{code}: {said}");
    ensure!(offer.there(&door)? == CHUNK as u64, "what was good is kept");
    ensure!(!offer.send_rest(&door)?);
    node.stop()
}

/// Each leaves when the first of its files is in place, which is before it is a version.
#[test]
fn what_is_stored_is_told_also_where_its_sender_has_left() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let mut events = node.events()?;
    for number in 100..110 {
        let offer = Offer::new(&series, &node.key(), number)?;
        let record = node.data_dir().join(format!("artifacts/{}.json", sha256(&offer.bytes)));
        let sending = Sending::begin(&door, offer.header(0))?;
        offer.bytes.chunks(CHUNK).for_each(|chunk| sending.chunk(chunk));
        sending.leave(|| record.exists());
        offer.send_rest(&door)?;
        let stored = format!("probe {} (", offer.version);
        events.wait(WAIT, |event| event.kind == "artifact.committed" && event.text.starts_with(&stored))?;
    }
    node.stop()
}

/// A power cut can leave the length of what was written without its bytes.
#[test]
fn bytes_that_changed_in_the_spool_are_noticed_and_sent_anew() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    let sending = Sending::begin(&door, offer.header(0))?;
    sending.chunk(&offer.bytes[..CHUNK]);
    offer.wait_there(&door, CHUNK)?;
    drop(sending);
    fs::write(node.data_dir().join(format!("spool/{}.part", sha256(&offer.bytes))), [0; CHUNK])?;

    let sending = Sending::begin(&door, offer.header(CHUNK as u64))?;
    offer.bytes[CHUNK..].chunks(CHUNK).for_each(|chunk| sending.chunk(chunk));
    let (code, said) = refused(sending.finish())?;
    ensure!(code == "digest_mismatch" && said.contains("from the start"), "{code}: {said}");
    ensure!(offer.there(&door)? == 0, "it begins anew");
    ensure!(!offer.send_rest(&door)?, "it was not there");
    node.stop()
}

/// Whoever shares an upload with somebody who sends other bytes gets there all the same.
#[test]
fn wrong_bytes_are_thrown_away_also_while_another_call_has_them() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    let wrong = Sending::begin(&door, offer.header(0))?;
    wrong.chunk(&[1; CHUNK]);
    offer.wait_there(&door, CHUNK)?;
    let shares = Sending::begin(&door, offer.header(CHUNK as u64))?;
    shares.chunk(&offer.bytes[CHUNK..2 * CHUNK]);
    offer.wait_there(&door, 2 * CHUNK)?;
    let rest = Sending::begin(&door, offer.header(2 * CHUNK as u64))?;
    offer.bytes[2 * CHUNK..].chunks(CHUNK).for_each(|chunk| rest.chunk(chunk));
    let (code, said) = refused(rest.finish())?;
    ensure!(code == "digest_mismatch", "{code}: {said}");
    ensure!(offer.there(&door)? == 0, "it begins anew, while two others have what was there");
    ensure!(!offer.send_rest(&door)?, "it was not there");
    drop((wrong, shares));
    node.stop()
}

#[test]
fn a_question_where_to_go_on_changes_nothing() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    abandon(&door, &offer.signature, 16, 1000, 10)?;
    let spool = || -> Result<BTreeSet<_>> {
        fs::read_dir(node.data_dir().join("spool"))?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let before = spool()?;
    ensure!(before.len() == 16, "{before:?}");
    ensure!(offer.there(&door)? == 0);
    ensure!(spool()? == before, "a question took the place of an upload");
    node.stop()
}

#[test]
fn a_client_that_is_too_slow_is_told_so_and_what_it_sent_is_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&key.signer("ada@example.com")?, "[store]\nupload_patience = \"3s\"\n")?;
    let series = Series::new(service.scratch())?;
    let door = service.door();
    for (number, bytes) in [(100, 0), (101, 1)] {
        let offer = Offer::new(&series, &key, number)?;
        let began = Instant::now();
        let sending = Sending::begin(&door, offer.header(0))?;
        let mut sent = 0;
        while !sending.is_answered() {
            ensure!(began.elapsed() < WAIT, "the node waits for ever for {sent} bytes");
            if bytes > 0 {
                sending.chunk(&offer.bytes[sent..=sent]);
                sent += 1;
            }
            // The pace itself is what is tested: there is nothing to wait for.
            thread::sleep(Duration::from_millis(100));
        }
        let took = began.elapsed();
        let answer = sending.finish();
        ensure!(answer.as_ref().is_err_and(|status| status.code() == Code::DeadlineExceeded), "{answer:?}");
        let (code, said) = refused(answer)?;
        ensure!(took >= Duration::from_secs(3), "patience of three seconds ended after {took:?}");
        ensure!(
            code == "upload_slow" && said.contains("bytes in 3s, expected at least 262144 bytes"),
            "{said}"
        );
        let there = offer.there(&door)?;
        ensure!((there > 0) == (bytes > 0) && there <= sent as u64, "{there} of {sent} bytes are kept");
        ensure!(!offer.send_rest(&door)?, "it goes on where it stopped");
    }
    service.stop()
}

#[test]
fn ten_thousand_abandoned_uploads_cost_little_and_block_nobody() -> Result<()> {
    const ABANDONED: u64 = 10_000;
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    // The first ones take what stays with the process anyhow.
    abandon(&door, &offer.signature, 200, 100_000, CHUNK)?;
    let before = node.daemon()?.holds()?;

    let codes = abandon(&door, &offer.signature, ABANDONED, 100_000, CHUNK)?;
    ensure!(codes.get("upload_incomplete") == Some(&ABANDONED), "{codes:?}");
    // And some that are cut off, all at once.
    let cut: Vec<Sending> = (0..16)
        .map(|number| {
            let header = UploadHeader { digest: sha256(&[number; 3]), ..offer.header(0) };
            let (digest, size) = (header.digest.clone(), header.size);
            let sending = Sending::begin(&door, header)?;
            sending.chunk(&offer.bytes[..CHUNK]);
            // Each must have its place before another caller asks for one.
            let deadline = Instant::now() + WAIT;
            while door.begin(&digest, size)? != CHUNK as u64 {
                ensure!(Instant::now() < deadline, "upload {number} has no place");
            }
            Ok(sending)
        })
        .collect::<Result<_>>()?;
    offer_is_refused_while(&door, &offer, cut)?;

    let spool: Vec<_> = fs::read_dir(node.data_dir().join("spool"))?.collect::<Result<_, _>>()?;
    let bytes: u64 = spool.iter().map(|entry| Ok(entry.metadata()?.len())).sum::<Result<_>>()?;
    ensure!(spool.len() <= 16 && bytes <= 16 * CHUNK as u64, "{} files of {bytes} bytes", spool.len());
    ensure!(!offer.send_rest(&door)?, "a good upload is taken at once");
    let deadline = Instant::now() + WAIT;
    loop {
        let now = node.daemon()?.holds()?;
        if now.descriptors <= before.descriptors + 2 {
            ensure!(now.resident < before.resident + 32 * 1024, "{before:?} became {now:?}");
            break;
        }
        ensure!(Instant::now() < deadline, "{before:?} became {now:?}");
    }
    node.stop()
}

/// As long as all places are taken, one more is refused with a sentence; then they are cut off, and it is not.
fn offer_is_refused_while(door: &Door, offer: &Offer, taken: Vec<Sending>) -> Result<()> {
    let deadline = Instant::now() + WAIT;
    let attempt = || -> Result<(String, String)> {
        let sending = Sending::begin(door, offer.header(0))?;
        sending.chunk(&offer.bytes[..1]);
        refused(sending.finish())
    };
    let (code, said) = attempt()?;
    ensure!(code == "too_many_uploads" && said.contains("16 uploads are under way"), "{code}: {said}");
    drop(taken);
    while attempt()?.0 == "too_many_uploads" {
        ensure!(Instant::now() < deadline, "the places of those that were cut off stay taken");
    }
    Ok(())
}

#[test]
fn an_abandoned_upload_is_removed_after_a_day() -> Result<()> {
    let (node, series) = node()?;
    let door = node.door()?;
    let offer = Offer::new(&series, &node.key(), 100)?;
    abandon(&door, &offer.signature, 2, 1000, 10)?;
    let path = |number: u64| node.data_dir().join(format!("spool/{}.part", sha256(&number.to_le_bytes())));
    let age = |number, hours: u64| -> Result<()> {
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        Ok(File::options().write(true).open(path(number))?.set_modified(at)?)
    };
    age(0, 25)?;
    age(1, 23)?;
    let deadline = Instant::now() + WAIT;
    while path(0).exists() {
        ensure!(Instant::now() < deadline, "it is still there");
        thread::yield_now();
    }
    ensure!(path(1).exists(), "one of 23 hours went as well");
    node.stop()
}

#[test]
fn a_request_that_comes_again_is_one_rollout() -> Result<()> {
    let (mut node, series) = node()?;
    for number in [100, 101] {
        let offer = Offer::new(&series, &node.key(), number)?;
        offer.send_rest(&node.door()?)?;
    }
    let ask = |node: &Node, version: &str, request: &str| start(node.door()?, "probe", version, request);
    let begun = thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&node, "1.0.100", "one"))).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().expect("a caller that does not panic"))
            .collect::<Vec<_>>()
    });
    let (mut ids, mut first) = (BTreeSet::new(), 0);
    for answer in begun {
        let answer = answer?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        ids.insert(answer.rollout.context("a rollout")?.id);
        first += usize::from(!answer.already_started);
    }
    ensure!(ids.len() == 1 && first == 1, "{ids:?} were begun, by {first} calls");
    let id = ids.first().context("a rollout")?;
    node.events()?.wait(WAIT, |event| event.kind == "rollout.started")?;
    is_told_once(&node, id, 1)?;

    let again = |node: &Node| -> Result<()> {
        let answer = ask(node, "1.0.100", "one")?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let id = answer.rollout.context("a rollout")?.id;
        ensure!(answer.already_started && ids.contains(&id), "{id} is another than {ids:?}");
        let other = ask(node, "1.0.101", "one")?.err().context("another rollout under the same request")?;
        ensure!(!other.code.is_empty() && other.found.contains("one"), "{other:?}");
        Ok(())
    };
    node.kill_daemon()?;
    node.start_again()?;
    again(&node)?;
    node.wait_module("probe", WAIT, |module| module.phase == "done")?;
    again(&node)?;
    node.kill_all()?;
    node.start_again()?;
    again(&node)?;
    is_told_once(&node, id, 0)?;
    let history: Value = node.hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json()?;
    let entries = history["entries"].as_array().context("entries")?;
    ensure!(entries.len() == 1 && entries[0]["rollout"] == id.as_str(), "{history}");
    node.stop()
}

/// Of a rollout that was asked for many times there is one record of its start. A crash may cost the events of the last second.
fn is_told_once(node: &Node, id: &str, least: usize) -> Result<()> {
    let told = node.hotctl(&["events", "-n", "1000", "-o", "json"])?.expect(0)?.stdout;
    let told: Vec<Event> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for kind in ["rollout.started", "rollout.finished"] {
        let of_kind: Vec<_> = told.iter().filter(|event| event.kind == kind).collect();
        ensure!(of_kind.len() <= 1 && of_kind.iter().all(|event| event.rollout == id), "{kind}: {told:?}");
    }
    let started = told.iter().filter(|event| event.kind == "rollout.started").count();
    ensure!(started >= least, "nobody told of the start: {told:?}");
    Ok(())
}
