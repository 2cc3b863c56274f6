//! Metrics in the text format of Prometheus, 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats): one `# TYPE` line and then the samples of each metric, with
//! the labels module, release, version and instance in front of the module's own. In a fleet `node` comes before them: ids of
//! instances are of one node.

use std::collections::BTreeMap;

use hot_proto::v1::metric_series::Value;
use hot_proto::v1::{InstanceMetrics, MetricHistogram, MetricSeries};

/// The whole page.
pub(crate) fn text(module: &str, instances: &[InstanceMetrics], is_fleet: bool) -> String {
    // All samples of a metric must stand together, whichever instance they are of.
    let mut metrics: BTreeMap<&str, Vec<(String, &Value)>> = BTreeMap::new();
    for instance in instances {
        for series in &instance.series {
            let Some(value) = &series.value else { continue };
            metrics
                .entry(&series.name)
                .or_default()
                .push((labels(module, instance, series, is_fleet), value));
        }
    }
    let mut page = String::new();
    for (name, samples) in metrics {
        // Two releases may use one name for two kinds; the page can have it once.
        let kind = samples.first().map_or("untyped", |(_, value)| kind(value));
        line(&mut page, format_args!("# TYPE {name} {kind}"));
        for (labels, value) in samples.iter().filter(|(_, value)| self::kind(value) == kind) {
            sample(&mut page, name, labels, value);
        }
    }
    page
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Counter(_) => "counter",
        Value::Gauge(_) => "gauge",
        Value::Histogram(_) => "histogram",
    }
}

fn sample(page: &mut String, name: &str, labels: &str, value: &Value) {
    match value {
        Value::Counter(value) | Value::Gauge(value) => line(page, format_args!("{name}{{{labels}}} {value}")),
        Value::Histogram(MetricHistogram { buckets, beyond, sum }) => {
            let mut count = 0_u64;
            for bucket in buckets {
                count = count.saturating_add(bucket.count);
                line(page, format_args!("{name}_bucket{{{labels},le=\"{}\"}} {count}", bucket.bound));
            }
            count = count.saturating_add(*beyond);
            line(page, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
            line(page, format_args!("{name}_sum{{{labels}}} {sum}"));
            line(page, format_args!("{name}_count{{{labels}}} {count}"));
        }
    }
}

fn labels(module: &str, instance: &InstanceMetrics, series: &MetricSeries, is_fleet: bool) -> String {
    let node = if is_fleet { format!("node=\"{}\",", escaped(&instance.node)) } else { String::new() };
    let mut text = format!(
        "{node}module=\"{}\",release=\"{}\",version=\"{}\",instance=\"{}\"",
        escaped(module),
        instance.release,
        escaped(&instance.version),
        instance.instance
    );
    for label in &series.labels {
        text.push_str(&format!(",{}=\"{}\"", label.name, escaped(&label.value)));
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.push_str(&std::fmt::format(text));
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_proto::v1::{MetricBucket, MetricLabel};

    fn series(name: &str, labels: &[(&str, &str)], value: Value) -> MetricSeries {
        let label = |(name, value): &(&str, &str)| MetricLabel {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        MetricSeries { name: name.to_owned(), labels: labels.iter().map(label).collect(), value: Some(value) }
    }

    fn instance(number: u64, series: Vec<MetricSeries>) -> InstanceMetrics {
        let (node, reason) = ("n1".to_owned(), String::new());
        InstanceMetrics {
            node,
            instance: number,
            release: number + 1,
            version: "1.0.0".to_owned(),
            series,
            reason,
        }
    }

    #[test]
    fn a_page_as_prometheus_reads_it() {
        let bucket = |bound, count| MetricBucket { bound, count };
        let histogram =
            MetricHistogram { buckets: vec![bucket(0.5, 1), bucket(1.0, 2)], beyond: 3, sum: 12.5 };
        let first = vec![
            series("greetings_total", &[("lang", "de \"\\\n")], Value::Counter(3.0)),
            series("took_seconds", &[], Value::Histogram(histogram)),
        ];
        let second = vec![
            series("greetings_total", &[], Value::Counter(0.25)),
            series("took_seconds", &[], Value::Gauge(1.0)),
        ];
        let of_fleet = text("greeter", &[instance(1, vec![series("c", &[], Value::Counter(1.0))])], true);
        assert!(of_fleet.contains("c{node=\"n1\",module=\"greeter\","), "{of_fleet}");
        let page = text("greeter", &[instance(1, first), instance(2, second)], false);
        let of = |number: u64| {
            format!("module=\"greeter\",release=\"{}\",version=\"1.0.0\",instance=\"{number}\"", number + 1)
        };
        let (one, two) = (of(1), of(2));
        let expected = format!(
            "# TYPE greetings_total counter\n\
             greetings_total{{{one},lang=\"de \\\"\\\\\\n\"}} 3\n\
             greetings_total{{{two}}} 0.25\n\
             # TYPE took_seconds histogram\n\
             took_seconds_bucket{{{one},le=\"0.5\"}} 1\n\
             took_seconds_bucket{{{one},le=\"1\"}} 3\n\
             took_seconds_bucket{{{one},le=\"+Inf\"}} 6\n\
             took_seconds_sum{{{one}}} 12.5\n\
             took_seconds_count{{{one}}} 6\n"
        );
        assert_eq!(page, expected);
    }
}
