//! One picture: lines over a row of ticks, with a legend beside them.
//!
//! A picture brings its own ground and both of its colours, light and dark, chosen by what its reader
//! prefers, so that it is readable wherever it is shown. Lines have colours that stand out from
//! either.

use std::error::Error;
use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width and height in pixels.
const SIZE: (u32, u32) = (820, 420);

/// Of the width, the legend's.
const LEGEND: u32 = 190;

/// The ground that [`STYLE`] darkens.
const GROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// Axes and grid, on either ground.
const GREY: RGBColor = RGBColor(0x8b, 0x94, 0x9e);

/// What plotters cannot say: colours for readers who prefer dark.
const STYLE: &str = "<style>text{fill:#1f2328}\
@media (prefers-color-scheme:dark){rect[fill=\"#FFFFFF\"]{fill:#0d1117}text{fill:#e6edf3}}</style>";

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Stroke {
    /// Lengths of dashes and gaps in pixels.
    fn dashes(self) -> (i32, i32) {
        match self {
            Self::Solid => (SIZE.0 as i32, 0),
            Self::Dashed => (8, 5),
            Self::Dotted => (2, 4),
        }
    }
}

/// A line and its name.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub name: String,
    pub colour: RGBColor,
    pub stroke: Stroke,
    /// By place of the tick, and value.
    pub points: Vec<(f64, f64)>,
}

/// What a picture shows.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub title: String,
    /// What the ticks are, with their unit.
    pub x: String,
    /// Ticks: where, and what is written there.
    pub ticks: Vec<(f64, String)>,
    /// What the values are, with their unit.
    pub y: String,
    /// Whether ten times as much is as far everywhere; no value is 0 or less then.
    pub logarithmic: bool,
    pub lines: Vec<Line>,
}

/// An axis with marks where they are wanted.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

type Failure = Box<dyn Error + Send + Sync>;

impl Chart {
    /// The picture as SVG.
    ///
    /// # Errors
    /// What plotters says.
    pub(super) fn svg(&self) -> Result<String, Failure> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&GROUND)?;
            let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
            self.lines(&left)?;
            self.legend(&right)?;
            root.present()?;
        }
        let head = svg.find('>').map_or(0, |end| end + 1);
        svg.insert_str(head, STYLE);
        // Some readers want a title to read out.
        svg.insert_str(head, &format!("<title>{}</title>", self.title));
        Ok(svg)
    }

    /// Where a value stands on the axis.
    fn height(&self, value: f64) -> f64 {
        if self.logarithmic {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        }
    }

    fn lines<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), Failure>
    where
        B::ErrorType: 'static,
    {
        let values = self.lines.iter().flat_map(|line| &line.points);
        let heights: Vec<_> = values.map(|&(_, value)| self.height(value)).collect();
        let (bottom, top, marks) = scale(&heights, self.logarithmic);
        let places = || self.ticks.iter().map(|&(place, _)| place);
        let first = places().fold(f64::INFINITY, f64::min);
        let last = places().fold(f64::NEG_INFINITY, f64::max);
        let margin = ((last - first) * 0.04).max(0.1);
        let x = Axis {
            range: first - margin..last + margin,
            marks: places().collect(),
        };
        let y = Axis {
            range: bottom..top,
            marks,
        };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)?;
        self.mesh(&mut chart)?;
        for line in &self.lines {
            let points = || line.points.iter().map(|&(x, y)| (x, self.height(y)));
            let (dash, gap) = line.stroke.dashes();
            match line.stroke {
                Stroke::Solid => {
                    chart.draw_series(LineSeries::new(points(), line.colour.stroke_width(2)))?;
                }
                Stroke::Dashed | Stroke::Dotted => {
                    let style = line.colour.stroke_width(2);
                    chart.draw_series(DashedLineSeries::new(
                        points(),
                        dash as u32,
                        gap as u32,
                        style,
                    ))?;
                }
            }
            chart.draw_series(points().map(|point| Circle::new(point, 3, line.colour.filled())))?;
        }
        Ok(())
    }

    fn mesh<B: DrawingBackend>(
        &self,
        chart: &mut ChartContext<'_, B, Cartesian2d<Axis, Axis>>,
    ) -> Result<(), Failure>
    where
        B::ErrorType: 'static,
    {
        let tick = |at: &f64| {
            let here = self
                .ticks
                .iter()
                .find(|(place, _)| (place - at).abs() < 1e-9);
            here.map_or(String::new(), |(_, text)| text.clone())
        };
        let mark = |height: &f64| {
            number(if self.logarithmic {
                10f64.powf(*height)
            } else {
                *height
            })
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&tick)
            .y_label_formatter(&mark)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .draw()?;
        Ok(())
    }

    fn legend<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), Failure>
    where
        B::ErrorType: 'static,
    {
        let font = ("sans-serif", 13).into_text_style(area);
        let font = font.pos(Pos::new(HPos::Left, VPos::Center));
        for (row, line) in self.lines.iter().enumerate() {
            let y = 60 + 22 * row as i32;
            let (dash, gap) = line.stroke.dashes();
            let (mut from, end) = (0, 30);
            while from < end {
                let to = (from + dash).min(end);
                let dash = vec![(from, y), (to, y)];
                area.draw(&PathElement::new(dash, line.colour.stroke_width(2)))?;
                from = to + gap.max(1);
            }
            area.draw(&Circle::new((end / 2, y), 3, line.colour.filled()))?;
            area.draw_text(&line.name, &font, (end + 8, y))?;
        }
        Ok(())
    }
}

/// Bottom and top of an axis that holds all heights, and where its marks are.
fn scale(heights: &[f64], logarithmic: bool) -> (f64, f64, Vec<f64>) {
    let least = heights.iter().copied().fold(f64::INFINITY, f64::min);
    let most = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !least.is_finite() {
        return (0.0, 1.0, vec![0.0, 1.0]);
    }
    if logarithmic {
        let (bottom, top) = (least.floor(), most.ceil().max(least.floor() + 1.0));
        let decades = (bottom as i32..=top as i32).map(f64::from).collect();
        return (bottom, top, decades);
    }
    // Marks are 1, 2 or 5 times a power of ten apart, five to ten of them.
    let rough = most.max(1e-9) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let count = (most / step).ceil().max(1.0) as i32;
    let marks = (0..=count).map(|n| f64::from(n) * step).collect();
    (0.0, f64::from(count) * step, marks)
}

/// A value as short as it can be said.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 1e6 => format!("{} M", round(value / 1e6)),
        v if v >= 1e3 => format!("{} k", round(value / 1e3)),
        _ => round(value),
    }
}

fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(logarithmic: bool) -> Chart {
        Chart {
            title: "cost".into(),
            x: "connections".into(),
            ticks: vec![(0.0, "1".into()), (1.0, "8".into())],
            y: "CPU, µs a request".into(),
            logarithmic,
            lines: vec![Line {
                name: "weir, 5 %".into(),
                colour: RGBColor(1, 2, 3),
                stroke: Stroke::Dashed,
                points: vec![(0.0, 12.0), (1.0, 340.0)],
            }],
        }
    }

    #[test]
    fn a_picture_names_its_axes_and_lines_and_is_readable_in_the_dark() {
        for logarithmic in [false, true] {
            let svg = chart(logarithmic).svg().unwrap();
            for text in [
                "connections",
                "CPU, µs a request",
                "weir, 5 %",
                "cost",
                "#010203",
            ] {
                assert!(svg.contains(text), "{text} in {svg}");
            }
            assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("fill=\"#FFFFFF\""));
        }
    }

    #[test]
    fn an_axis_begins_at_nothing_or_at_a_power_of_ten_and_holds_every_value() {
        assert_eq!(
            scale(&[12.0, 34.0], false),
            (0.0, 40.0, vec![0.0, 10.0, 20.0, 30.0, 40.0])
        );
        assert_eq!(
            scale(&[1.2, 3.4], true),
            (1.0, 4.0, vec![1.0, 2.0, 3.0, 4.0])
        );
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 2.5, 100.0, 20_000.0, 1e6].map(number);
        assert_eq!(texts, ["0", "2.5", "100", "20 k", "1 M"]);
    }
}
