//! Bars with their spread.

use super::{Drawing, TEXT, TOP, WIDTH, color};
use crate::stats::Spread;

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) label: String,
    /// Its median, and from where to where.
    pub(crate) spread: Spread,
    /// It is what this is about.
    pub(crate) ours: bool,
}

const LABELS: f64 = 170.0;
const ROW: f64 = 30.0;

/// Draws them, and gives the height of it all.
pub(super) fn draw(drawing: &mut Drawing, bars: &[Bar]) -> f64 {
    let most = bars.iter().map(|bar| bar.spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - 70.0) / most;
    // Values that are told apart by less than one have another digit.
    let digits = if most < 10.0 { 2 } else { 1 };
    let mut top = TOP;
    for Bar { label, spread, ours } in bars {
        let [median, least, most] = [spread.median, spread.least, spread.most].map(|value| value * scale);
        let middle = top + ROW / 2.0 - 3.0;
        drawing.text(LABELS - 8.0, middle + 4.0, "end", TEXT, label);
        drawing.rect(LABELS, middle - 8.0, median, 16.0, color(*ours));
        drawing.path(&format!("M{:.1} {middle:.1}H{:.1}", LABELS + least, LABELS + most), TEXT);
        let value = format!("{:.digits$}", spread.median);
        drawing.text(LABELS + most + 8.0, middle + 4.0, "start", TEXT, &value);
        top += ROW;
    }
    top + 10.0
}
