use std::collections::VecDeque;
use std::io::Write as _;

use super::*;
use crate::fake::{FakeNode, Script};

const SIZE: usize = 300_000;

const PATIENCE: Patience = Patience {
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
    stall: Duration::from_secs(30),
};

fn content() -> Vec<u8> {
    (0..SIZE).map(|n| u8::try_from(n % 251).expect("fits")).collect()
}

fn source(bytes: &[u8], size: u64) -> Source {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("writes");
    Source {
        path: PathBuf::from("a.so"),
        file: Arc::new(file),
        digest: "d".repeat(64),
        size,
        signature: b"signature".to_vec(),
        request_id: "r".to_owned(),
    }
}

fn script(cuts: &[usize]) -> Script {
    Script { cuts: VecDeque::from(cuts.to_vec()), max_chunk: 65_536, ..Script::default() }
}

#[tokio::test]
async fn an_upload_arrives_whole() {
    let node = FakeNode::start(script(&[]));
    let mut reported = 0;
    let answer =
        upload(&node.client().await, &source(&content(), SIZE as u64), PATIENCE, |bytes| reported = bytes)
            .await;
    assert!(answer.expect("uploads").artifact.is_some());
    assert_eq!(reported, SIZE as u64);
    let script = node.script();
    assert_eq!(script.stored, content());
    assert_eq!(script.headers.len(), 1);
    assert_eq!(script.headers[0].signature, b"signature");
    assert_eq!(script.largest_chunk, 65_536, "as large as the node takes");
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_stopped() {
    // More cuts than fruitless attempts: each brings bytes, so none of them counts.
    let cuts = [1, 70_000, 65_536, 10, 20, 30, 40];
    let node = FakeNode::start(script(&cuts));
    upload(&node.client().await, &source(&content(), SIZE as u64), PATIENCE, |_| ()).await.expect("uploads");
    let script = node.script();
    assert_eq!(script.stored, content());
    let offsets: Vec<u64> = script.headers.iter().map(|header| header.offset).collect();
    assert_eq!(offsets, [0, 1, 70_001, 135_537, 135_547, 135_567, 135_597, 135_637]);
}

#[tokio::test]
async fn attempts_that_bring_nothing_are_counted() {
    let node = FakeNode::start(Script { refusal: Some(Status::unavailable("gone")), ..script(&[]) });
    let error = upload(&node.client().await, &source(&content(), SIZE as u64), PATIENCE, |_| ())
        .await
        .expect_err("fails");
    assert!(matches!(&error, UploadError::Node(status) if status.message() == "gone"), "{error:?}");
    assert_eq!(node.script().headers.len(), 5);
    assert_eq!(Failure::from(error).exit.code(), 1);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let refusal = Status::permission_denied("the signer is not allowed");
    let node = FakeNode::start(Script { refusal: Some(refusal), ..script(&[]) });
    let error = upload(&node.client().await, &source(&content(), SIZE as u64), PATIENCE, |_| ())
        .await
        .expect_err("fails");
    assert_eq!(node.script().headers.len(), 1, "asked once");
    let failure = Failure::from(error);
    assert_eq!((failure.exit.code(), failure.sentence.as_str()), (4, "the signer is not allowed"));
}

#[tokio::test]
async fn what_the_node_has_is_not_sent_again() {
    let node = FakeNode::start(Script { stored: content(), ..script(&[]) });
    upload(&node.client().await, &source(&content(), SIZE as u64), PATIENCE, |_| ()).await.expect("uploads");
    let script = node.script();
    assert_eq!((script.headers[0].offset, script.largest_chunk), (SIZE as u64, 0), "only the signature");
}

#[tokio::test]
async fn a_file_that_got_shorter_is_said() {
    let node = FakeNode::start(script(&[]));
    let source = source(&content(), SIZE as u64 + 1);
    let error = upload(&node.client().await, &source, PATIENCE, |_| ()).await.expect_err("fails");
    assert!(matches!(error, UploadError::Read { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stalled_upload_is_broken_off() {
    let taken = AtomicU64::new(0);
    let error =
        watched::<()>(std::future::pending(), &taken, Duration::ZERO, &mut |_| ()).await.expect_err("stalls");
    assert!(matches!(error, UploadError::Stalled(_)));
}
