//! Two charts in SVG, readable on light and on dark backgrounds, with the reader's system font.

use std::fmt::Write;

/// The width of a picture, in pixels as all lengths here.
const WIDTH: f64 = 1000.0;
/// The margins around the plotted area.
const LEFT: f64 = 372.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 104.0;
/// The height of one judge's line in a row.
const LINE: f64 = 11.0;

/// The colours of the judges, which differ in lightness too (Okabe and Ito 2008).
const COLOURS: [&str; 10] =
    ["#0072b2", "#56b4e9", "#9aa0a6", "#cc79a7", "#d55e00", "#e69f00", "#009e73", "#74c9a8", "#8a6d3b", "#c2a878"];

const STYLE: &str = "<style>\
    text{font-family:system-ui,sans-serif;font-size:12px;fill:#24292f}\
    .small{font-size:9px}.title{font-size:15px;font-weight:600}\
    .grid{stroke:#8c959f;stroke-opacity:.35}.promise{stroke:#24292f;stroke-dasharray:3 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.promise{stroke:#e6edf3}}</style>";

/// One judge's times to the rollback in one row.
pub struct Dot {
    /// The median in seconds.
    pub median: f64,
    /// The 90th percentile in seconds.
    pub p90: f64,
    /// The share of the rollouts that were rolled back, from 0 to 1.
    pub share: f64,
}

/// A chart with rows of judges' lines and a horizontal axis.
struct Picture {
    text: String,
    height: f64,
}

impl Picture {
    /// Starts a chart with its title and its legend.
    fn new(title: &str, names: &[&str], rows: usize) -> Picture {
        let height = TOP + rows as f64 * row_height(names.len()) + 36.0;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
             <title>{title}</title>\n{STYLE}\n<text class=\"title\" x=\"12\" y=\"24\">{title}</text>\n"
        );
        for (index, (name, colour)) in names.iter().zip(COLOURS).enumerate() {
            let (x, y) = (12.0 + 245.0 * (index % 4) as f64, 46.0 + 18.0 * (index / 4) as f64);
            let _ = writeln!(text, "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>", y - 9.0);
            let _ = writeln!(text, "<text x=\"{}\" y=\"{y}\">{}</text>", x + 15.0, escaped(name));
        }
        Picture { text, height }
    }

    /// Draws a vertical line with a label on the axis.
    fn tick(&mut self, x: f64, label: &str, class: &str) {
        let (bottom, label_y) = (self.height - 30.0, self.height - 14.0);
        let _ = writeln!(self.text, "<line class=\"{class}\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ = writeln!(self.text, "<text x=\"{x}\" y=\"{label_y}\" text-anchor=\"middle\">{label}</text>");
    }

    /// Writes the name of a row.
    fn row(&mut self, y: f64, name: &str) {
        let x = LEFT - 12.0;
        let _ = writeln!(self.text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", escaped(name));
    }

    fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn row_height(judges: usize) -> f64 {
    LINE * judges as f64 + 14.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Returns the vertical positions of a row's top and of its middle.
fn row_position(row: usize, judges: usize) -> (f64, f64) {
    let top = TOP + row as f64 * row_height(judges) + 4.0;
    (top, top + LINE * judges as f64 / 2.0 + 4.0)
}

/// Draws shares of rollouts as bars. `rows` has each row's name and each judge's share, from 0 to 1.
pub fn bars(names: &[&str], rows: &[(String, Vec<f64>)]) -> String {
    let mut picture = Picture::new("Good versions rolled back within the hour", names, rows.len());
    let x = |share: f64| LEFT + share * (WIDTH - LEFT - RIGHT);
    for percent in [25u32, 50, 75, 100] {
        picture.tick(x(f64::from(percent) / 100.0), &format!("{percent} %"), "grid");
    }
    picture.tick(x(0.01), "1 %", "promise");
    for (index, (name, shares)) in rows.iter().enumerate() {
        let (top, middle) = row_position(index, names.len());
        picture.row(middle, name);
        for (judge, (share, colour)) in shares.iter().zip(COLOURS).enumerate() {
            let y = top + LINE * judge as f64;
            let width = (x(*share) - LEFT).max(1.0);
            let _ = writeln!(
                picture.text,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{:.2} %</text>",
                LINE - 1.0,
                (LEFT + width).max(x(0.01)) + 4.0,
                y + LINE - 2.5,
                100.0 * share
            );
        }
    }
    picture.end()
}

/// Draws times to the rollback as dots with a line from the median to the 90th percentile. A dot is hollow if less than
/// half of the rollouts are rolled back.
pub fn dots(names: &[&str], rows: &[(String, Vec<Dot>)]) -> String {
    let title = "Seconds from a fault to its rollback: median, and line to the 90th percentile";
    let mut picture = Picture::new(title, names, rows.len());
    let x = |seconds: f64| {
        let fraction = libm::log(seconds.max(15.0) / 15.0) / libm::log(5400.0 / 15.0);
        LEFT + fraction * (WIDTH - LEFT - RIGHT)
    };
    for (seconds, label) in [(15.0, "15 s"), (60.0, "1 min"), (300.0, "5 min"), (900.0, "15 min"), (3600.0, "1 h")] {
        picture.tick(x(seconds), label, "grid");
    }
    for (index, (name, dots)) in rows.iter().enumerate() {
        let (top, middle) = row_position(index, names.len());
        picture.row(middle, name);
        for (judge, (dot, colour)) in dots.iter().zip(COLOURS).enumerate() {
            let y = top + LINE * judge as f64 + LINE / 2.0;
            if dot.share == 0.0 {
                let _ = writeln!(
                    picture.text,
                    "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">never</text>",
                    WIDTH - RIGHT + 6.0,
                    y + 3.0
                );
                continue;
            }
            let (from, to) = (x(dot.median), x(dot.p90));
            let fill = if dot.share < 0.5 { "none" } else { colour };
            let _ = writeln!(
                picture.text,
                "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <circle cx=\"{from:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            );
            if dot.share < 0.995 {
                let _ = writeln!(
                    picture.text,
                    "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{:.0} %</text>",
                    to + 7.0,
                    y + 3.0,
                    100.0 * dot.share
                );
            }
        }
    }
    picture.end()
}
