//! A watch tells each change once, whatever becomes of etcd meanwhile.

use hot_tests::Etcd;
use hotd::cluster::etcd::{News, Watch};

use super::{Rig, connect, in_time, next};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_told_and_then_what_changes() {
    let rig = Rig::new();
    rig.put("a/1", "one").await;
    rig.put("b/1", "elsewhere").await;
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "a/1=one");
    assert_eq!(next(&mut watch).await, "listed");
    rig.put("a/2", "two").await;
    rig.put("a/2", "three").await;
    rig.delete("a/1").await;
    for expected in ["a/2=two", "a/2=three", "-a/1"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_page_is_listed_whole() {
    let rig = Rig::new();
    for number in 0..1201 {
        rig.put(&format!("a/{number:04}"), "x").await;
    }
    let mut watch = rig.watch("a/");
    for number in 0..1201 {
        assert_eq!(next(&mut watch).await, format!("a/{number:04}=x"));
    }
    assert_eq!(next(&mut watch).await, "listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_when_etcd_comes_back() {
    let mut rig = Rig::new();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    rig.put("a/1", "one").await;
    assert_eq!(next(&mut watch).await, "a/1=one");
    rig.etcd.kill(0).unwrap();
    assert_eq!(next(&mut watch).await, "silent");
    rig.etcd.restart(0).unwrap();
    rig.put("a/2", "two").await;
    assert_eq!(next(&mut watch).await, "heard");
    assert_eq!(next(&mut watch).await, "a/2=two", "and nothing is told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_without_etcd_and_waits() {
    let mut rig = Rig::new();
    rig.put("a/1", "one").await;
    rig.etcd.kill(0).unwrap();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "silent");
    rig.etcd.restart(0).unwrap();
    for expected in ["a/1=one", "listed", "heard"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_answers_nothing_is_noticed() {
    let rig = Rig::new();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    rig.etcd.freeze(0).unwrap();
    assert_eq!(next(&mut watch).await, "silent");
    rig.etcd.thaw(0).unwrap();
    assert_eq!(next(&mut watch).await, "heard");
    rig.put("a/1", "one").await;
    assert_eq!(next(&mut watch).await, "a/1=one");
}

/// What is wrong now may be more than what was wrong first.
#[tokio::test(flavor = "multi_thread")]
async fn another_reason_is_told_while_it_lasts() {
    let mut rig = Rig::new();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    rig.etcd.freeze(0).unwrap();
    let News::Broken = in_time(watch.next()).await else { panic!("its way is broken") };
    let News::Silent(first) = in_time(watch.next()).await else { panic!("it is silent") };
    assert!(!hotd::describe(&first).contains("refused"), "{first}");
    rig.etcd.kill(0).unwrap();
    loop {
        let News::StillSilent(why) = in_time(watch.next()).await else { panic!("it is silent still") };
        if hotd::describe(&why).contains("refused") {
            break;
        }
    }
}

/// What a node meets that was away while etcd forgot what it missed.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_compaction_it_tells_what_differs() {
    let rig = Rig::new();
    for (key, value) in [("a/stays", "1"), ("a/changes", "1"), ("a/goes", "1")] {
        rig.put(key, value).await;
    }
    let (link, connection) = rig.link();
    let mut watch = Watch::start(connection, "a/".to_owned());
    for expected in ["a/changes=1", "a/goes=1", "a/stays=1", "listed"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    link.cut();
    assert_eq!(next(&mut watch).await, "silent");
    rig.put("a/changes", "2").await;
    rig.put("a/changes", "3").await;
    rig.delete("a/goes").await;
    let last = rig.put("a/comes", "1").await;
    rig.compact(last).await;
    link.mend();
    for expected in ["heard", "a/changes=3", "a/comes=1", "-a/goes", "listed"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    rig.put("a/stays", "2").await;
    assert_eq!(next(&mut watch).await, "a/stays=2");
}

/// etcd was set up anew: it counts from the beginning, below what was told already.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_lost_its_data_is_listed_anew() {
    let mut rig = Rig::new();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    for n in 0..20 {
        rig.put("a/1", &n.to_string()).await;
        assert_eq!(next(&mut watch).await, format!("a/1={n}"));
    }
    rig.etcd.lose().unwrap();
    assert_eq!(next(&mut watch).await, "silent");
    rig.etcd.restart_all().unwrap();
    in_time(rig.put_until("a/2", "two")).await;
    let mut news = Vec::new();
    while news.last().is_none_or(|last| last != "listed") {
        news.push(next(&mut watch).await);
    }
    assert_eq!(news, ["heard", "a/2=two", "-a/1", "listed"]);
    rig.put("a/2", "three").await;
    assert_eq!(next(&mut watch).await, "a/2=three");
}

/// The next member is asked when one dies, and a minority is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn of_three_members_one_may_die() {
    let mut rig = Rig::of(Etcd::start_many(3).unwrap());
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    for member in 0..3 {
        rig.etcd.kill(member).unwrap();
        let value = member.to_string();
        in_time(rig.put_until(&format!("a/{member}"), &value)).await;
        loop {
            let news = next(&mut watch).await;
            if news == format!("a/{member}={value}") {
                break;
            }
            assert!(news == "silent" || news == "heard", "{news}");
        }
        rig.etcd.restart(member).unwrap();
    }
}

/// No call goes to the one that is gone and comes to nothing: whichever member a node begins with.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_gone_costs_no_call() {
    let mut rig = Rig::of(Etcd::start_many(3).unwrap());
    rig.put_until("a/1", "one").await;
    rig.etcd.kill(1).unwrap();
    // The others may have to elect a leader first.
    rig.put_until("a/1", "two").await;
    for _ in 0..12 {
        let connection = connect(&rig.etcd);
        connection.put("a/1", b"three".to_vec(), 0).await.unwrap();
        connection.get("a/1").await.unwrap();
    }
}
