//! Draws figures as SVG.

use std::fs;
use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::figures::{Row, Spread};

/// Large enough for a dozen bars with their names and figures, in pixels.
const WIDTH: u32 = 860;
const HEIGHT: u32 = 420;

/// How much longer than the longest bar its axis is.
const ROOM_FOR_FIGURES: f64 = 1.2;

/// A picture, and the name of its file.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) y: String,
    pub(crate) kind: Kind,
}

/// What is drawn, each with its spread.
#[derive(Debug)]
pub(crate) enum Kind {
    /// One value for each name.
    Bars(Vec<(String, Spread)>),
    /// Values over an axis that is logarithmic, as what grows is tried in steps of ten.
    Lines { x: String, lines: Vec<Line> },
}

/// A series with a name.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Spread)>,
}

impl Plot {
    /// One bar for each row of a table that has a value in this column.
    pub(crate) fn bars(file: &str, title: impl Into<String>, rows: &[Row], column: &str) -> Self {
        let value = |row: &Row| row.figures.iter().find(|(name, _)| *name == column).map(|(_, spread)| *spread);
        let bars = rows.iter().filter_map(|row| Some((row.variant.clone(), value(row)?)));
        let bars = bars.filter(|(_, spread)| spread.median.is_finite()).collect();
        Self { file: file.to_owned(), title: title.into(), y: column.to_owned(), kind: Kind::Bars(bars) }
    }
}

/// Draws each into a file of its own; the folder is made.
pub(crate) fn draw(plots: &[Plot], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for plot in plots {
        let path = folder.join(format!("{}.svg", plot.file));
        let area = SVGBackend::new(&path, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        match &plot.kind {
            Kind::Bars(bars) => draw_bars(plot, bars, &area)?,
            Kind::Lines { x, lines } => draw_lines(plot, x, lines, &area)?,
        }
        area.present().map_err(failed)?;
    }
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Lying bars, the first on top, so that names of any length stay beside theirs.
fn draw_bars(plot: &Plot, bars: &[(String, Spread)], area: &Area<'_>) -> anyhow::Result<()> {
    let most = bars.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let count = i32::try_from(bars.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..top(most) * ROOM_FOR_FIGURES, (0..(count - 1).max(0)).into_segmented())
        .map_err(failed)?;
    let name = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(number) => usize::try_from(count - 1 - *number)
            .ok()
            .and_then(|number| bars.get(number))
            .map_or_else(String::new, |bar| bar.0.clone()),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len().max(1))
        .y_label_formatter(&name)
        .y_label_style(("sans-serif", 15))
        .x_desc(&plot.y)
        .draw()
        .map_err(failed)?;
    for (number, (_, spread)) in (0..count).rev().zip(bars) {
        let (below, above) = (SegmentValue::Exact(number), SegmentValue::Exact(number + 1));
        let mut bar = Rectangle::new([(0.0, below), (spread.median, above)], Palette99::pick(0).filled());
        bar.set_margin(5, 5, 0, 0);
        chart.draw_series([bar]).map_err(failed)?;
        let middle = SegmentValue::CenterOf(number);
        let whisker = [(spread.min, middle.clone()), (spread.max, middle.clone())];
        chart.draw_series([PathElement::new(whisker, BLACK.stroke_width(2))]).map_err(failed)?;
        let figures = Text::new(spread.to_string(), (8, -6), ("sans-serif", 14));
        chart.draw_series([EmptyElement::at((spread.max, middle)) + figures]).map_err(failed)?;
    }
    Ok(())
}

fn draw_lines(plot: &Plot, x: &str, lines: &[Line], area: &Area<'_>) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let least_x = points().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let most_x = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let most_y = points().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((least_x..most_x.max(least_x * 1.1)).log_scale(), 0.0..top(most_y))
        .map_err(failed)?;
    chart.configure_mesh().x_desc(x).y_desc(&plot.y).draw().map_err(failed)?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let medians = line.points.iter().map(|(at, spread)| (*at, spread.median));
        chart
            .draw_series(LineSeries::new(medians, colour.stroke_width(2)).point_size(4))
            .map_err(failed)?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let whiskers = line
            .points
            .iter()
            .map(|(at, spread)| PathElement::new([(*at, spread.min), (*at, spread.max)], colour.stroke_width(1)));
        chart.draw_series(whiskers).map_err(failed)?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw().map_err(failed)
}

/// Room above what is highest.
fn top(most: f64) -> f64 {
    if most > 0.0 { most * 1.1 } else { 1.0 }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}
