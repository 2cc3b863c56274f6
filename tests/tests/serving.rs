//! Every shape of exchange, through the real gateway and a real host.

use anyhow::Result;
use bytes::Bytes;
use hot_tests::{Module, Node, exchange, get};
use http_body_util::Full;

#[test]
fn a_body_comes_back_piece_by_piece() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("echoes").build()?, &[])?.expect(0)?;
    // More than the credit of both directions together, so that it can only pass as it is read.
    let body: Bytes =
        (0..4u32 << 20).map(|index| index.to_le_bytes()[(index % 3) as usize]).collect::<Vec<_>>().into();
    let request = http::Request::post("/probe").header("host", "localhost").body(Full::new(body.clone()))?;
    let reply = exchange(node.http(), request)?;
    assert_eq!(reply.status(), 200);
    assert!(reply.body() == &body, "{} of {} bytes came back, or others", reply.body().len(), body.len());
    node.stop()
}

#[test]
fn a_big_response_is_whole() -> Result<()> {
    const PIECE: usize = 64 << 10;
    let node = Node::start()?;
    node.push(&Module::new("big").number("BYTES", 32 << 20).build()?, &[])?.expect(0)?;
    let reply = get(node.http(), "/probe")?;
    assert_eq!((reply.status().as_u16(), reply.body().len()), (200, 32 << 20));
    let wrong = reply
        .body()
        .chunks(PIECE)
        .zip((0..=255u8).cycle())
        .position(|(piece, number)| piece.iter().any(|byte| *byte != number));
    assert_eq!(wrong, None, "the first wrong piece");
    node.stop()
}

#[test]
fn a_finish_from_another_thread_is_a_finish() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("later").build()?, &[])?.expect(0)?;
    let reply = get(node.http(), "/probe")?;
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (200, &b"probe 1.0.0\n"[..]));
    node.stop()
}

#[test]
fn modules_serve_their_own_routes_side_by_side() -> Result<()> {
    let node = Node::start()?;
    for name in ["one", "two", "three"] {
        node.push(&Module::new("good").name(name).build()?, &[])?.expect(0)?;
    }
    for name in ["one", "two", "three"] {
        let reply = get(node.http(), &format!("/{name}/below?x=1"))?;
        assert_eq!(reply.body().as_ref(), format!("{name} 1.0.0\n").as_bytes());
    }
    assert_eq!(get(node.http(), "/four")?.status(), 404);
    assert_eq!(get(node.http(), "/ones")?.status(), 404, "a prefix ends where a part of the path ends");
    assert_eq!(get(node.http(), "/-/ready")?.status(), 200);
    assert_eq!(get(node.http(), "/-/live")?.status(), 200);
    node.stop()
}

#[test]
fn two_modules_that_claim_one_route_are_not_let_in() -> Result<()> {
    let node = Node::start()?;
    node.push(&hot_tests::example("hello-c.so")?, &[])?.expect(0)?;
    let refused = node.push(&Module::new("good").name("hello").build()?, &[])?.expect(4)?;
    assert!(refused.sentence()?.contains("/hello"), "{}", refused.stderr);
    assert_eq!(get(node.http(), "/hello")?.body().as_ref(), b"hello from hello-c 1.0.0\n");
    node.stop()
}

#[test]
fn a_request_can_be_pinned_to_a_version() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    node.push(&Module::new("good").version("1.1.0").build()?, &["--steps", "100%", "--bake", "1s"])?
        .expect(0)?;
    for (pin, expected) in [("1.0.0", "probe 1.0.0\n"), ("1.1.0", "probe 1.1.0\n")] {
        let request = http::Request::get("/probe").header("host", "localhost").header("x-hot-version", pin);
        let reply = exchange(node.http(), request.body(Full::default())?)?;
        assert_eq!(
            reply.body().as_ref(),
            expected.as_bytes(),
            "pinned to {pin}; the former stable is a standby"
        );
    }
    node.stop()
}
