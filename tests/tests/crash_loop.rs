//! A stable release that crash-loops long after its promotion: what the node makes of it, and how it is tried again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hot_tests::{Key, Module, Service, WAIT, get, text};

/// A service on which 1.1.0 is stable, each instance of which segfaults on its first request, and 1.0.0 was before.
struct Looping {
    service: Service,
    folder: tempfile::TempDir,
}

const AT_ONCE: [&str; 4] = ["--steps", "100%", "--bake", "1s"];

impl Looping {
    fn start(config: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::generate(folder.path().join("ada"))?;
        let service = Service::start(&key.signer("ada@example.com")?, config)?;
        let looping = Self { service, folder };
        let good = Module::new("good").version("1.0.0").build()?;
        looping.run("push", text(&good)?, &AT_ONCE, 0)?;
        // Nobody asks it anything before it is stable.
        looping.run("push", text(&bad()?)?, &AT_ONCE, 0)?;
        Ok(looping)
    }

    fn run(&self, verb: &str, file: &str, more: &[&str], code: i32) -> Result<String> {
        let key = self.folder.path().join("ada");
        let command = [&[verb, file, "--key", text(&key)?], more].concat();
        let output = self.service.hotctl(&command)?.expect(code)?;
        Ok(output.stdout + &output.stderr)
    }

    /// Asks it for something each time it is back, until `seen`.
    fn crash_until(&self, seen: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + WAIT;
        while !seen()? {
            ensure!(Instant::now() < end, "{}", self.nodes()?);
            // It waits for the next instance at the gateway, and costs that one its life.
            get(self.service.http(), "/probe")?;
        }
        Ok(())
    }

    fn nodes(&self) -> Result<String> {
        Ok(self.service.hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout)
    }

    fn serves(&self) -> Result<String> {
        let reply = get(self.service.http(), "/probe")?;
        Ok(String::from_utf8(reply.body().to_vec())?)
    }
}

fn bad() -> Result<std::path::PathBuf> {
    Module::new("segfaults").number("NTH", 1).version("1.1.0").build()
}

#[test]
fn a_node_that_may_goes_back_to_what_served_and_the_bytes_wait_for_a_person() -> Result<()> {
    let looping = Looping::start("[policy]\non_crash_loop = \"go_back\"\n")?;
    let service = &looping.service;
    let mut events = service.events()?;
    looping.crash_until(|| Ok(service.module("probe")?.stable_version() == "1.0.0"))?;
    assert_eq!(looping.serves()?, "probe 1.0.0\n");
    let left = events.wait(WAIT, |event| event.kind == "crash_loop.left")?;
    assert!(left.text.contains("went back to release 1") && left.text.contains("SIGSEGV"), "{}", left.text);

    // It is no way back any more either.
    let dismissed = events.wait(WAIT, |event| event.kind == "standby.dismissed")?;
    assert!(
        dismissed.text.contains("release 2 of probe") && dismissed.text.contains("quarantined"),
        "{}",
        dismissed.text
    );

    // What it did is no accident, and nothing tries it again but a person who says so.
    let versions = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.stdout;
    assert!(versions.contains("crash-looped"), "{versions}");
    let (file, more) = (bad()?, &AT_ONCE);
    let refused = looping.run("push", text(&file)?, more, 4)?;
    assert!(refused.contains("quarantin") && refused.contains("hotctl push --retry"), "{refused}");
    looping.run("plan", text(&file)?, more, 4)?;
    let again = [&AT_ONCE[..], &["--retry"]].concat();
    looping.run("plan", text(&file)?, &again, 10)?;
    looping.run("push", text(&file)?, &again, 0)?;
    let lifted = events.wait(WAIT, |event| event.kind == "quarantine.lifted")?;
    let text = lifted.text;
    assert!(text.contains(" has probe 1.1.0 (") && text.contains("crash-looped"), "{text}");
    assert_eq!(service.module("probe")?.stable_version(), "1.1.0");
    looping.service.stop()
}

#[test]
fn one_that_may_not_tries_on_and_says_so_until_it_serves() -> Result<()> {
    let looping = Looping::start("")?;
    let service = &looping.service;
    let loops = || Ok(looping.nodes()?.contains("\"code\":\"module.crash_loop\""));
    looping.crash_until(loops)?;
    assert_eq!(service.module("probe")?.stable_version(), "1.1.0");
    // The next one serves, as nobody asks it anything.
    let end = Instant::now() + WAIT;
    while loops()? {
        ensure!(Instant::now() < end, "{}", looping.nodes()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    service.hotctl(&["rollback", "probe"])?.expect(0)?;
    assert_eq!(looping.serves()?, "probe 1.0.0\n");
    looping.service.stop()
}
