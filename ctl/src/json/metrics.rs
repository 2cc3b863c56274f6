//! What `metrics -o json` prints.

use std::collections::BTreeMap;

use hot_proto::v1;
use hot_proto::v1::metric_series::Value;
use serde::Serialize;

/// What a module has counted.
#[derive(Debug, Serialize)]
pub(crate) struct MetricsJson {
    module: String,
    instances: Vec<InstanceJson>,
    /// Nodes that did not answer.
    silent: Vec<String>,
}

#[derive(Debug, Serialize)]
struct InstanceJson {
    node: String,
    instance: u64,
    release: u64,
    version: String,
    reason: String,
    series: Vec<SeriesJson>,
}

#[derive(Debug, Serialize)]
struct SeriesJson {
    name: String,
    kind: &'static str,
    labels: BTreeMap<String, String>,
    value: Option<f64>,
    histogram: Option<HistogramJson>,
}

#[derive(Debug, Serialize)]
struct HistogramJson {
    buckets: Vec<BucketJson>,
    count: u64,
    sum: f64,
}

#[derive(Debug, Serialize)]
struct BucketJson {
    le: f64,
    count: u64,
}

impl MetricsJson {
    pub(crate) fn new(module: &str, answer: v1::MetricsResponse) -> Self {
        let instances = answer.instances.into_iter().map(InstanceJson::from).collect();
        Self { module: module.to_owned(), instances, silent: answer.heard.unwrap_or_default().silent }
    }
}

impl From<v1::InstanceMetrics> for InstanceJson {
    fn from(instance: v1::InstanceMetrics) -> Self {
        Self {
            node: instance.node,
            instance: instance.instance,
            release: instance.release,
            version: instance.version,
            reason: instance.reason,
            series: instance.series.into_iter().filter_map(SeriesJson::of).collect(),
        }
    }
}

impl SeriesJson {
    fn of(series: v1::MetricSeries) -> Option<Self> {
        let (kind, value, histogram) = match series.value? {
            Value::Counter(value) => ("counter", Some(value), None),
            Value::Gauge(value) => ("gauge", Some(value), None),
            Value::Histogram(histogram) => ("histogram", None, Some(histogram.into())),
        };
        let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
        Some(Self { name: series.name, kind, labels, value, histogram })
    }
}

impl From<v1::MetricHistogram> for HistogramJson {
    /// Counts are cumulative, as in Prometheus' text format.
    fn from(histogram: v1::MetricHistogram) -> Self {
        let mut count = 0_u64;
        let mut cumulative = |bucket: &v1::MetricBucket| {
            count = count.saturating_add(bucket.count);
            BucketJson { le: bucket.bound, count }
        };
        let buckets = histogram.buckets.iter().map(&mut cumulative).collect();
        Self { buckets, count: count.saturating_add(histogram.beyond), sum: histogram.sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_hold_still() {
        let series = |name: &str, value| v1::MetricSeries {
            name: name.to_owned(),
            labels: vec![v1::MetricLabel { name: "a".to_owned(), value: "b".to_owned() }],
            value: Some(value),
        };
        let bucket = |bound, count| v1::MetricBucket { bound, count };
        let histogram =
            v1::MetricHistogram { buckets: vec![bucket(0.5, 1), bucket(1.0, 2)], beyond: 3, sum: 12.5 };
        let instance = v1::InstanceMetrics {
            node: "n1".to_owned(),
            instance: 4,
            release: 2,
            version: "1.0.0".to_owned(),
            series: vec![series("c", Value::Counter(1.0)), series("h", Value::Histogram(histogram))],
            reason: String::new(),
        };
        let heard = Some(v1::Heard { nodes: vec!["n1".to_owned()], silent: vec!["n2".to_owned()] });
        let answer = v1::MetricsResponse { instances: vec![instance], heard };
        assert_eq!(
            serde_json::to_string(&MetricsJson::new("greeter", answer)).expect("serialises"),
            r#"{"module":"greeter","instances":[{"node":"n1","instance":4,"release":2,"version":"1.0.0","reason":"","series":[{"name":"c","kind":"counter","labels":{"a":"b"},"value":1.0,"histogram":null},{"name":"h","kind":"histogram","labels":{"a":"b"},"value":null,"histogram":{"buckets":[{"le":0.5,"count":1},{"le":1.0,"count":3}],"count":6,"sum":12.5}}]}],"silent":["n2"]}"#
        );
    }
}
