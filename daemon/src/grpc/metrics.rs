//! What modules have counted, as their hosts tell it now.

use futures_util::future::join_all;
use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_proto::v1::metric_series::Value as Shown;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_rollout::{Module, Node, ReleaseNumber};
use hot_wire::metrics::{Series, Value};

use super::Api;
use super::everywhere::Whose;
use super::logs::{Source, sources};
use crate::supervisor::{Instance, State};

/// Asks every instance that serves, all at once.
pub(super) async fn gather(
    api: &Api,
    name: &ModuleName,
    release: Option<ReleaseNumber>,
) -> Vec<v1::InstanceMetrics> {
    let sources = sources(api, &Module(name.to_string()), release).into_iter();
    let running = |source: Source| Some((source.instance.clone()?, source));
    let mut sources: Vec<(Instance, Source)> = sources.filter_map(running).collect();
    sources.retain(|(instance, _)| *instance.state().borrow() == State::Ready);
    sources.sort_by_key(|(_, source)| (source.release, source.id));
    join_all(sources.into_iter().map(|(instance, source)| of(&api.about.node, instance, source))).await
}

/// What all of these nodes say of theirs.
pub(super) async fn everywhere(
    api: &Api,
    name: &ModuleName,
    release: Option<ReleaseNumber>,
    whose: Whose,
) -> v1::MetricsResponse {
    let ask = |node: Node| async move {
        if api.is_this(&node) {
            return Some(gather(api, name, release).await);
        }
        let release = release.map_or(0, |release| release.0);
        let request = v1::MetricsRequest { module: name.to_string(), release, on: String::new() };
        let mut client = ModuleServiceClient::new(api.reach(&node).await?);
        Some(client.metrics(api.asking(request)).await.ok()?.into_inner().instances)
    };
    let (answers, heard) = api.ask_each(whose, ask).await;
    let mut instances = answers.concat();
    instances.sort_by(|one, other| {
        (one.release, &one.node, one.instance).cmp(&(other.release, &other.node, other.instance))
    });
    v1::MetricsResponse { instances, heard: Some(heard) }
}

async fn of(node: &str, instance: Instance, source: Source) -> v1::InstanceMetrics {
    let answer = instance.metrics().await;
    let reason = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    v1::InstanceMetrics {
        node: node.to_owned(),
        instance: source.id.0,
        release: source.release.0,
        version: source.version,
        series: answer.unwrap_or_default().into_iter().map(show).collect(),
        reason,
    }
}

fn show(series: Series) -> v1::MetricSeries {
    let label = |(name, value)| v1::MetricLabel { name, value };
    let bucket = |(bound, count)| v1::MetricBucket { bound, count };
    let value = match series.value {
        Value::Counter(value) => Shown::Counter(value),
        Value::Gauge(value) => Shown::Gauge(value),
        Value::Histogram { buckets, beyond, sum } => Shown::Histogram(v1::MetricHistogram {
            buckets: buckets.into_iter().map(bucket).collect(),
            beyond,
            sum,
        }),
    };
    v1::MetricSeries {
        name: series.name,
        labels: series.labels.into_iter().map(label).collect(),
        value: Some(value),
    }
}
