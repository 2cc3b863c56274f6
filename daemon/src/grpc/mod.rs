//! The control plane: thin services of `hot.v1` over the rooms that do the work, standard health and reflection.
//!
//! Holds no state. Each call has a name for its caller ([`auth`]), and what goes wrong becomes a status in one place
//! ([`status`]).

mod artifacts;
pub(crate) mod auth;
mod convert;
mod events;
mod everywhere;
mod forward;
mod giving;
mod known;
pub mod listen;
mod local;
mod logs;
mod metrics;
mod modules;
pub(crate) mod mutual;
mod nodes;
mod operate;
mod plan;
mod policy;
mod problems;
mod refusal;
mod removal;
mod rollouts;
pub(crate) mod status;
mod swaps;
mod turns;
mod versions;

use std::time::{Duration, SystemTime};

use hot_proto::v1::artifact_service_server::ArtifactServiceServer;
use hot_proto::v1::event_service_server::EventServiceServer;
use hot_proto::v1::module_service_server::ModuleServiceServer;
use hot_proto::v1::node_service_server::NodeServiceServer;
use hot_proto::v1::plan_service_server::PlanServiceServer;
use hot_proto::v1::rollout_service_server::RolloutServiceServer;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

use self::auth::Gate;
use self::forward::ForwardLayer;
use self::listen::{Doors, patient};
pub(crate) use self::status::disk;
use crate::agent::Agent;
use crate::cluster::Fleet;
use crate::driver::Driver;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::tls::TlsFiles;
use crate::trust::TrustFiles;

/// Largest message that a caller may send: an upload's chunk and its frame.
const MAX_REQUEST: usize = hot_proto::MAX_CHUNK + 64 * 1024;
/// Largest frame that a caller may send: a chunk comes as one, and not in pieces of 16 KiB, each with a system call at both
/// ends. HTTP/2 has at most 16 MiB.
const MAX_FRAME: u32 = 512 * 1024;
const _: () = assert!(MAX_REQUEST <= MAX_FRAME as usize);
/// Largest plan: metadata and signatures of all its files.
const MAX_PLAN: usize = 8 * 1024 * 1024;
/// Calls that one connection may have under way.
const MAX_STREAMS: u32 = 64;
/// After so long a connection is asked to come again, so that shutting down need not wait for idle ones for ever.
const CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// A caller that does not answer a ping in this time is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long calls under way may go on when the node shuts down.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name.
    pub node: String,
    /// Since when it runs.
    pub since: SystemTime,
    /// It was started for trying out.
    pub dev: bool,
    /// Address of its gateway; a URL where it serves with TLS alone.
    pub http: String,
    /// What it lacks of the full service, a sentence each.
    pub missing: Vec<String>,
    /// How long an instance of stable may take to become ready.
    pub start_deadline: Duration,
}

/// What the services work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// What this node says of itself.
    pub about: About,
    /// Releases, versions, rollouts.
    pub ledger: Ledger,
    /// Whose signatures count.
    pub trust: TrustFiles,
    /// The files of TLS: of the gateway, and of callers with a certificate, as far as there are.
    pub tls: Vec<TlsFiles>,
    /// Largest artifact, bytes.
    pub max_artifact: u64,
    /// How long the caller of an upload is waited for, for each chunk of the largest size.
    pub upload_patience: Duration,
    /// The rules of a rollout that names no others.
    pub policy: hot_rollout::Policy,
    /// The fleet that this node is in.
    pub fleet: Option<Fleet>,
    /// Rollouts.
    pub driver: Driver,
    /// What runs here.
    pub agent: Agent,
    /// What happened.
    pub journal: Journal,
    /// The node is shutting down: streams end.
    pub stopped: CancellationToken,
}

/// Serves until the token is cancelled, then lets calls under way end for a short time.
pub async fn serve(api: Api, doors: Doors) -> Result<(), tonic::transport::Error> {
    let stopped = api.stopped.clone();
    let forward =
        ForwardLayer { fleet: api.fleet.clone(), agent: api.agent.clone(), driver: api.driver.clone() };
    let routes = routes(api).await;
    let socket =
        server(Gate::Socket, forward.clone()).add_routes(routes.clone()).serve_with_incoming_shutdown(
            patient(UnixListenerStream::new(doors.socket)),
            stopped.clone().cancelled_owned(),
        );
    let tcp = doors.tcp.map(|(listener, token)| {
        server(Gate::Token(token), forward.clone()).add_routes(routes.clone()).serve_with_incoming_shutdown(
            patient(TcpListenerStream::new(listener)),
            stopped.clone().cancelled_owned(),
        )
    });
    let mutual = doors.mutual.map(|(listeners, files)| {
        server(Gate::Certificate, forward).add_routes(routes).serve_with_incoming_shutdown(
            mutual::callers(listeners, &files),
            stopped.clone().cancelled_owned(),
        )
    });
    let all = async { tokio::try_join!(socket, if_there(tcp), if_there(mutual)).map(drop) };
    let late = async {
        stopped.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        result = all => result,
        () = late => {
            tracing::warn!("some callers were still there and are cut off");
            Ok(())
        }
    }
}

/// Serves at a door that there may be.
async fn if_there<E>(door: Option<impl Future<Output = Result<(), E>>>) -> Result<(), E> {
    match door {
        Some(door) => door.await,
        None => Ok(()),
    }
}

type Guarded = Server<Stack<ForwardLayer, Stack<InterceptorLayer<Gate>, Identity>>>;

fn server(gate: Gate, forward: ForwardLayer) -> Guarded {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .http2_keepalive_interval(Some(PING_TIMEOUT))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_connection_age(CONNECTION_AGE)
        .layer(InterceptorLayer::new(gate))
        .layer(forward)
}

async fn routes(api: Api) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<RolloutServiceServer<rollouts::Rollouts>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(hot_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(
        ArtifactServiceServer::new(artifacts::Artifacts::new(api.clone()))
            .max_decoding_message_size(MAX_REQUEST),
    )
    .add_service(
        RolloutServiceServer::new(rollouts::Rollouts(api.clone())).max_decoding_message_size(MAX_REQUEST),
    )
    .add_service(
        ModuleServiceServer::new(modules::Modules(api.clone())).max_decoding_message_size(MAX_REQUEST),
    )
    .add_service(EventServiceServer::new(events::Events(api.clone())).max_decoding_message_size(MAX_REQUEST))
    .add_service(PlanServiceServer::new(plan::Plans(api.clone())).max_decoding_message_size(MAX_PLAN))
    .add_service(NodeServiceServer::new(nodes::Nodes(api)).max_decoding_message_size(MAX_REQUEST))
    .add_service(health);
    // Both are in use: Python's client asks for the older one.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "there is no reflection"),
    }
    routes
}
