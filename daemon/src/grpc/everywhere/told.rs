//! What all nodes tell, as one: what each has told before, by time, and then what each tells, as it arrives.
//!
//! Each node is read by a task of its own, which goes on where it was when its node is back. Bounded: a reader that is too
//! slow holds all of them up, and no more than some messages wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use hot_proto::v1;
use hot_rollout::Node;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;

use super::super::Api;
use super::order::{by_time, latest};
use super::{Whose, in_time};

/// Between two looks who is there, and two attempts to read a node that was lost.
const LOOK: Duration = Duration::from_secs(1);
/// Before a node whose telling ended is asked to go on.
const BREATH: Duration = Duration::from_millis(100);
/// Messages that wait for the reader.
const WAITING: usize = 64;

/// What nodes tell: events, lines.
pub(in crate::grpc) trait Telling: Clone + Send + Sync + 'static {
    /// One thing told.
    type Item: Send + Sync + 'static;
    /// What the reader gets.
    type Message: Send + 'static;

    /// Has a node tell from there on. None where it does not.
    fn open(
        &self,
        node: &Node,
        since: Since<'_, Self::Item>,
    ) -> impl Future<Output = Option<Told<Self::Item>>> + Send;

    /// When it was, by the clock of its node: seconds and nanoseconds since 1970.
    fn time(item: &Self::Item) -> (i64, i32);

    /// The messages that say it.
    fn messages(said: Said<Self::Item>) -> Vec<Self::Message>;

    /// What is kept of the last thing told, to go on from there.
    fn keep(item: &Self::Item) -> Self::Item;
}

/// Since where on a node tells.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) enum Since<'a, T> {
    /// With what it has told before.
    Past,
    /// It is new here, or has told nothing yet.
    Now,
    /// After this.
    After(&'a T),
}

/// What a node tells: what it had to tell already, and what comes.
pub(in crate::grpc) struct Told<T> {
    /// In its order.
    pub(in crate::grpc) past: Vec<T>,
    /// Ends when the node is lost.
    pub(in crate::grpc) next: BoxStream<'static, Piece<T>>,
}

/// Some things told at once.
#[derive(Debug)]
pub(in crate::grpc) struct Piece<T> {
    pub(in crate::grpc) items: Vec<T>,
    /// So many were dropped before.
    pub(in crate::grpc) dropped: u64,
}

/// What the reader is told.
#[derive(Debug)]
pub(in crate::grpc) enum Said<T> {
    /// Whose things come from here on.
    Heard(v1::Heard),
    /// Things told.
    Piece(Piece<T>),
}

/// What a task that reads a node says.
enum News<T> {
    Heard,
    Lost,
    Piece(Piece<T>),
}

/// Who is heard, and who is not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Roll(BTreeMap<Node, bool>);

impl Roll {
    fn message(&self) -> v1::Heard {
        let those =
            |heard| self.0.iter().filter(move |(_, is)| **is == heard).map(|(node, _)| node.to_string());
        v1::Heard { nodes: those(true).collect(), silent: those(false).collect() }
    }

    /// Whether that is a change.
    fn set(&mut self, node: Node, heard: bool) -> bool {
        self.0.insert(node, heard) != Some(heard)
    }
}

/// Tells the last `tail` things of these nodes and, with `follow`, each new one until nobody reads; with `all`, those of nodes
/// that join as well.
pub(in crate::grpc) async fn tell<T: Telling>(
    api: &Api,
    telling: &T,
    Whose { nodes, all }: Whose,
    tail: usize,
    follow: bool,
    to: mpsc::Sender<Result<T::Message, Status>>,
) {
    let (news, mut arriving) = mpsc::channel(WAITING);
    let mut readers = Readers {
        api,
        telling,
        all,
        roll: Roll::default(),
        tasks: BTreeMap::new(),
        set: JoinSet::new(),
        news,
    };
    let mut lists = Vec::new();
    let told = nodes.into_iter().map(|node| async move {
        let told = ask(api, telling, &node, Since::Past).await;
        (node, told)
    });
    for (node, told) in join_all(told).await {
        readers.roll.set(node.clone(), told.is_some());
        let (past, next) = told.map_or_else(|| (Vec::new(), None), |told| (told.past, Some(told.next)));
        if follow {
            readers.begin(node, past.last().map(T::keep), next);
        }
        lists.push(past);
    }
    let items = latest(by_time(lists, T::time), tail);
    let begun = say::<T>(&to, Said::Heard(readers.roll.message())).await
        && say::<T>(&to, Said::Piece(Piece { items, dropped: 0 })).await;
    if !begun || !follow {
        return;
    }
    let mut look = tokio::time::interval(LOOK);
    loop {
        let said = tokio::select! {
            Some((node, news)) = arriving.recv() => readers.hear(node, news),
            _ = look.tick() => readers.look(),
            () = to.closed() => return,
        };
        if let Some(said) = said
            && !say::<T>(&to, said).await
        {
            return;
        }
    }
}

async fn ask<T: Telling>(
    api: &Api,
    telling: &T,
    node: &Node,
    since: Since<'_, T::Item>,
) -> Option<Told<T::Item>> {
    if api.is_up(node) { in_time(telling.open(node, since)).await } else { None }
}

/// Whether somebody reads on.
async fn say<T: Telling>(to: &mpsc::Sender<Result<T::Message, Status>>, said: Said<T::Item>) -> bool {
    for message in T::messages(said) {
        if to.send(Ok(message)).await.is_err() {
            return false;
        }
    }
    true
}

/// A task for each node, and who is heard. All of them end with it.
struct Readers<'a, T: Telling> {
    api: &'a Api,
    telling: &'a T,
    /// Nodes that join are read too, and those that leave no more.
    all: bool,
    roll: Roll,
    tasks: BTreeMap<Node, AbortHandle>,
    set: JoinSet<()>,
    news: mpsc::Sender<(Node, News<T::Item>)>,
}

impl<T: Telling> Readers<'_, T> {
    fn begin(&mut self, node: Node, last: Option<T::Item>, next: Option<BoxStream<'static, Piece<T::Item>>>) {
        let (api, telling) = (self.api.clone(), self.telling.clone());
        let reader = Reader { node: node.clone(), last, news: self.news.clone() };
        let task = self.set.spawn(async move { reader.read(&api, &telling, next).await });
        self.tasks.insert(node, task);
    }

    /// What the reader is told of it. Of a node that has left: nothing.
    fn hear(&mut self, node: Node, news: News<T::Item>) -> Option<Said<T::Item>> {
        if !self.tasks.contains_key(&node) {
            return None;
        }
        let changed = match news {
            News::Piece(piece) => return Some(Said::Piece(piece)),
            News::Heard => self.roll.set(node, true),
            News::Lost => self.roll.set(node, false),
        };
        changed.then(|| Said::Heard(self.roll.message()))
    }

    /// Looks who is in the fleet now.
    fn look(&mut self) -> Option<Said<T::Item>> {
        while self.set.try_join_next().is_some() {}
        if !self.all {
            return None;
        }
        let there: BTreeSet<Node> = self.api.everyone().into_iter().collect();
        let left: Vec<Node> = self.tasks.keys().filter(|node| !there.contains(*node)).cloned().collect();
        let joined: Vec<Node> = there.into_iter().filter(|node| !self.tasks.contains_key(node)).collect();
        // Whether one that has joined is heard is not known yet.
        let changed = !left.is_empty();
        for node in left {
            self.roll.0.remove(&node);
            if let Some(task) = self.tasks.remove(&node) {
                task.abort();
            }
        }
        for node in joined {
            self.begin(node, None, None);
        }
        changed.then(|| Said::Heard(self.roll.message()))
    }
}

/// Reads one node.
struct Reader<I> {
    node: Node,
    /// What it told last.
    last: Option<I>,
    news: mpsc::Sender<(Node, News<I>)>,
}

impl<I: Send + Sync + 'static> Reader<I> {
    /// Reads for as long as somebody wants to know.
    async fn read<T: Telling<Item = I>>(
        mut self,
        api: &Api,
        telling: &T,
        mut next: Option<BoxStream<'static, Piece<I>>>,
    ) {
        let mut heard = next.as_ref().map(|_| true);
        loop {
            if let Some(pieces) = next.take() {
                if heard.replace(true) != Some(true) && !self.say(News::Heard).await {
                    return;
                }
                if !self.pass_on::<T>(api, pieces).await {
                    return;
                }
                tokio::time::sleep(BREATH).await;
            } else {
                tokio::time::sleep(LOOK).await;
            }
            let since = self.last.as_ref().map_or(Since::Now, Since::After);
            match ask(api, telling, &self.node, since).await {
                Some(Told { past, next: then }) => {
                    let past = Piece { items: past, dropped: 0 };
                    next = Some(futures_util::stream::iter([past]).chain(then).boxed());
                }
                None => {
                    let was = heard.replace(false);
                    if was != Some(false) && !self.say(News::Lost).await {
                        return;
                    }
                }
            }
        }
    }

    /// Passes on what the node tells until it is lost; whether somebody still wants to know.
    async fn pass_on<T: Telling<Item = I>>(
        &mut self,
        api: &Api,
        mut pieces: impl Stream<Item = Piece<I>> + Unpin,
    ) -> bool {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                piece = pieces.next() => {
                    let Some(piece) = piece else { return true };
                    if let Some(last) = piece.items.last() {
                        self.last = Some(T::keep(last));
                    }
                    if !self.say(News::Piece(piece)).await {
                        return false;
                    }
                }
                _ = look.tick() => if !api.is_up(&self.node) { return true },
            }
        }
    }

    async fn say(&self, news: News<I>) -> bool {
        self.news.send((self.node.clone(), news)).await.is_ok()
    }
}
