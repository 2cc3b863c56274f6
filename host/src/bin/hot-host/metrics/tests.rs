//! The registry, as a module uses it.

use super::*;
use hot_wire::metrics::Value;

fn record(
    metrics: &Metrics,
    kind: Kind,
    name: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> Result<(), Refusal> {
    let labels = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    metrics.record(kind, name.as_bytes(), labels, value)
}

fn values(metrics: &Metrics) -> Vec<(String, Value)> {
    metrics.page(0).1.into_iter().map(|series| (series.name, series.value)).collect()
}

#[test]
fn labels_name_one_series_in_any_order() {
    let metrics = Metrics::new();
    record(&metrics, Kind::Counter, "a", &[("x", "1"), ("y", "2")], 1.0).unwrap();
    record(&metrics, Kind::Counter, "a", &[("y", "2"), ("x", "1")], 0.5).unwrap();
    record(&metrics, Kind::Counter, "a", &[("x", "2"), ("y", "1")], 4.0).unwrap();
    record(&metrics, Kind::Counter, "a", &[], 8.0).unwrap();
    let numbers: Vec<_> = values(&metrics).into_iter().map(|(_, value)| value).collect();
    assert_eq!(numbers, [Value::Counter(1.5), Value::Counter(4.0), Value::Counter(8.0)]);
    assert_eq!(metrics.page(1).0, 3);
    assert_eq!(metrics.page(2).1.len(), 1);
    assert_eq!(metrics.page(9).1.len(), 0);
}

#[test]
fn a_gauge_is_set_and_a_histogram_has_its_bounds_in_its_buckets() {
    let metrics = Metrics::new();
    for value in [3.0, -2.5] {
        record(&metrics, Kind::Gauge, "g", &[], value).unwrap();
    }
    for value in [0.0, 0.005, 0.006, 10.0, 10.5, 99.0] {
        record(&metrics, Kind::Histogram, "h", &[], value).unwrap();
    }
    let [(_, gauge), (_, histogram)] = &values(&metrics)[..] else { unreachable!() };
    assert_eq!(gauge, &Value::Gauge(-2.5));
    let Value::Histogram { buckets, beyond: 2, sum } = histogram else { unreachable!("{histogram:?}") };
    assert!((sum - 119.511).abs() < 1e-9);
    assert_eq!(buckets.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn what_would_not_be_a_metric_is_refused() {
    let metrics = Metrics::new();
    let nine: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| (name, "")).to_vec();
    let long = "v".repeat(129);
    for (kind, name, labels, value) in [
        (Kind::Counter, "a", &[][..], -1.0),
        (Kind::Counter, "a", &[], f64::NAN),
        (Kind::Gauge, "a", &[], f64::INFINITY),
        (Kind::Gauge, "", &[], 1.0),
        (Kind::Gauge, "a-b", &[], 1.0),
        (Kind::Gauge, "a", &[("b", ""), ("b", "c")], 1.0),
        (Kind::Gauge, "a", &[("le", "1")], 1.0),
        (Kind::Gauge, "a", &[("b", &long)], 1.0),
        (Kind::Gauge, "a", &[("b", "two\nlines")], 1.0),
        (Kind::Gauge, "a", &nine, 1.0),
    ] {
        let refused = record(&metrics, kind, name, labels, value);
        assert_eq!(refused, Err(Refusal::Invalid), "{name} {labels:?} {value}");
    }
    assert_eq!(metrics.record(Kind::Gauge, b"a\xff", [].into_iter(), 1.0), Err(Refusal::Invalid));
    assert_eq!(metrics.page(0).0, 0);
}

#[test]
fn a_kind_is_kept_and_the_parts_of_a_histogram_are_taken() {
    let metrics = Metrics::new();
    record(&metrics, Kind::Histogram, "h", &[], 1.0).unwrap();
    record(&metrics, Kind::Counter, "c_sum", &[], 1.0).unwrap();
    for (kind, name, label) in [
        (Kind::Counter, "h", ""),
        (Kind::Gauge, "h", "another series"),
        (Kind::Counter, "h_count", ""),
        (Kind::Histogram, "c", ""),
    ] {
        assert_eq!(record(&metrics, kind, name, &[("a", label)], 1.0), Err(Refusal::Invalid), "{name}");
    }
    assert_eq!(record(&metrics, Kind::Counter, "h", &[], 1.0), Err(Refusal::Invalid));
    record(&metrics, Kind::Counter, "c", &[], 1.0).unwrap();
    record(&metrics, Kind::Counter, "other_count", &[], 1.0).unwrap();
}

#[test]
fn threads_lose_nothing_and_series_are_bounded() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..2 * MAX_SERIES {
                    let value = number.to_string();
                    let told = record(&metrics, Kind::Counter, "a", &[("n", &value)], 1.0);
                    assert!(matches!(told, Ok(()) | Err(Refusal::TooLarge)), "{told:?}");
                    record(&metrics, Kind::Counter, "a", &[("n", "0")], 1.0).unwrap();
                }
            });
        }
    });
    let (total, series) = metrics.page(0);
    assert_eq!((total, series.len()), (MAX_SERIES, MAX_SERIES));
    let first = series.iter().find(|series| series.labels[0].1 == "0").unwrap();
    assert_eq!(first.value, Value::Counter(4.0 + 4.0 * 512.0));
    let known = series.iter().filter(|series| series.value == Value::Counter(4.0)).count();
    assert_eq!(known, MAX_SERIES - 1);
}
