//! The drawings of the page, as inline SVG. All text that comes from the model goes through [`esc`].

use super::units::{fit, float, number};
use serde_json::Value;
use std::fmt::Write;

/// Text safe in HTML and in quoted attributes; control characters become spaces.
pub fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// One step of the critical path as the report has it.
struct Stair<'a> {
    layer: &'a str,
    step: &'a str,
    level_in: f64,
    level_out: f64,
}

fn stairs(report: &Value) -> Vec<Stair<'_>> {
    let path = report["critical_path"].as_array().into_iter().flatten();
    path.filter_map(|s| {
        Some(Stair {
            layer: s["layer"].as_str()?,
            step: s["step"].as_str()?,
            level_in: float(&s["level_in"])?,
            level_out: float(&s["level_out"])?,
        })
    })
    .collect()
}

/// The level along the critical path: a tread per step, a marked riser per bootstrap, a band per layer. Empty without a path.
pub fn staircase(report: &Value) -> String {
    let path = stairs(report);
    let Some(first) = path.first() else {
        return String::new();
    };
    let highest = path
        .iter()
        .map(|s| s.level_in.max(s.level_out))
        .fold(first.level_out, f64::max)
        .max(1.0);
    let width = (1100.0 / path.len() as f64).clamp(8.0, 56.0);
    let rise = (200.0 / highest).clamp(8.0, 22.0);
    let (left, top, bottom) = (34.0, 26.0, 8.0);
    let right = left + width * path.len() as f64;
    let floor = top + rise * highest;
    let x = |i: usize| left + width * i as f64;
    let y = |level: f64| floor - rise * level;
    let boots = path.iter().filter(|s| s.step == "bootstrap").count();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg width=\"{:.0}\" height=\"{:.0}\" viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" aria-labelledby=\"st\"><title id=\"st\">Level along the critical path: {} steps, {boots} bootstraps, highest level {highest}</title>",
        right + 8.0,
        floor + bottom,
        right + 8.0,
        floor + bottom,
        path.len(),
    );
    bands(&mut out, &path, &x, floor);
    let stride = if highest > 12.0 { 2 } else { 1 };
    for level in (0..=highest as usize).step_by(stride) {
        let at = y(level as f64);
        let _ = write!(out, "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{level}</text>", left - 6.0, at + 4.0);
    }
    let mut line = format!("M{:.1} {:.1}", x(0), y(first.level_in));
    for (i, s) in path.iter().enumerate() {
        let _ = write!(line, "L{:.1} {:.1}", x(i), y(s.level_out));
        let _ = write!(line, "L{:.1} {:.1}", x(i + 1), y(s.level_out));
    }
    let _ = write!(out, "<path class=\"stairs\" d=\"{line}\"/>");
    for (i, s) in path
        .iter()
        .enumerate()
        .filter(|(_, s)| s.step == "bootstrap")
    {
        let _ = write!(
            out,
            "<g><title>bootstrap in {0}: level {1}</title><line class=\"rise\" x1=\"{2:.1}\" x2=\"{2:.1}\" y1=\"{3:.1}\" y2=\"{4:.1}\"/><circle class=\"mark\" cx=\"{2:.1}\" cy=\"{4:.1}\" r=\"4\"/></g>",
            esc(s.layer),
            format_args!("{} to {}", s.level_in, s.level_out),
            x(i),
            y(s.level_in),
            y(s.level_out),
        );
    }
    out.push_str("</svg>");
    out
}

/// A band with its name for each run of steps in one layer.
fn bands(out: &mut String, path: &[Stair<'_>], x: &dyn Fn(usize) -> f64, floor: f64) {
    let mut start = 0;
    let mut number = 0;
    while let Some(first) = path.get(start) {
        let run = path[start..]
            .iter()
            .take_while(|s| s.layer == first.layer)
            .count();
        let (from, to) = (x(start), x(start + run));
        let class = if number % 2 == 0 { "bandA" } else { "bandB" };
        let _ = write!(
            out,
            "<g><title>{}: {run} steps</title><rect class=\"{class}\" x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{floor:.1}\"/>",
            esc(first.layer),
            to - from,
        );
        let letters = ((to - from) / 6.5) as usize;
        if letters >= 3 {
            // The end of a scoped name says most.
            let own = match first.layer.chars().count() > letters {
                true => first.layer.rsplit('.').next().unwrap_or(first.layer),
                false => first.layer,
            };
            let name = esc(&fit(own, letters));
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"13\" text-anchor=\"middle\">{name}</text>",
                (from + to) / 2.0
            );
        }
        out.push_str("</g>");
        start += run;
        number += 1;
    }
}

/// Where numbers go on one axis.
struct Axis {
    lo: f64,
    hi: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, spread: f64, from: f64, to: f64) -> Axis {
        let lo = values.clone().fold(f64::INFINITY, f64::min);
        let hi = values.fold(f64::NEG_INFINITY, f64::max);
        Axis {
            lo,
            hi,
            logarithmic: lo > 0.0 && hi / lo > spread,
            from,
            to,
        }
    }

    fn at(&self, v: f64) -> f64 {
        let scale = |v: f64| match self.logarithmic {
            true => v.max(self.lo).ln(),
            false => v,
        };
        let (lo, hi) = (scale(self.lo), scale(self.hi));
        let share = if hi > lo {
            (scale(v) - lo) / (hi - lo)
        } else {
            0.5
        };
        self.from + (self.to - self.from) * share
    }
}

fn line(class: &str, points: impl Iterator<Item = (f64, f64)>) -> String {
    let text: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!(
        "<polyline class=\"{class}\" points=\"{}\"/>",
        text.join(" ")
    )
}

/// Samples `[x, function, fit]` of a plot, if it has any and all are finite.
pub fn samples(plot: &Value) -> Option<Vec<[f64; 3]>> {
    let points = plot["points"].as_array()?;
    let points: Option<Vec<[f64; 3]>> = points
        .iter()
        .map(|p| Some([float(p.get(0)?)?, float(p.get(1)?)?, float(p.get(2)?)?]))
        .collect();
    points.filter(|p| p.len() > 1)
}

/// Function and fit above, error below: relative where `relative`. `name` is escaped here.
pub fn plot(name: &str, points: &[[f64; 3]], relative: bool) -> String {
    let errors: Vec<f64> = points
        .iter()
        .map(|[_, f, g]| match relative {
            true => (g - f) / f.abs().max(f64::MIN_POSITIVE),
            false => g - f,
        })
        .collect();
    let worst = errors.iter().fold(0.0f64, |m, e| m.max(e.abs()));
    let xs = Axis::new(points.iter().map(|p| p[0]), 30.0, 46.0, 292.0);
    let ys = Axis::new(points.iter().flat_map(|p| [p[1], p[2]]), 30.0, 112.0, 10.0);
    let error = |e: f64| 165.0 - if worst > 0.0 { 25.0 * e / worst } else { 0.0 };
    let mut out = format!(
        "<svg class=\"wide\" viewBox=\"0 0 300 208\" role=\"img\" aria-label=\"{}: function, fit and error\">",
        esc(name)
    );
    for at in [10.0, 112.0, 140.0, 165.0, 190.0] {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"46\" x2=\"292\" y1=\"{at}\" y2=\"{at}\"/>"
        );
    }
    let label = |x: f64, y: f64, anchor: &str, text: String| {
        format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>")
    };
    out += &label(42.0, 14.0, "end", number(ys.hi));
    out += &label(42.0, 116.0, "end", number(ys.lo));
    out += &label(42.0, 144.0, "end", format!("+{}", number(worst)));
    out += &label(42.0, 194.0, "end", format!("−{}", number(worst)));
    out += &label(46.0, 206.0, "start", number(xs.lo));
    let scale = if xs.logarithmic { "logarithmic" } else { "" };
    out += &label(169.0, 206.0, "middle", scale.into());
    out += &label(292.0, 206.0, "end", number(xs.hi));
    out += &line("f", points.iter().map(|p| (xs.at(p[0]), ys.at(p[1]))));
    out += &line("g", points.iter().map(|p| (xs.at(p[0]), ys.at(p[2]))));
    let curve = points.iter().zip(&errors);
    out += &line("err", curve.map(|(p, e)| (xs.at(p[0]), error(*e))));
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_cannot_leave_their_element() {
        assert_eq!(
            esc("<script>\"x\"&'\u{7}"),
            "&lt;script&gt;&quot;x&quot;&amp;&#39; "
        );
        let report = json!({"critical_path": [
            {"layer": "<script>alert(1)</script>", "step": "input", "level_in": 3, "level_out": 3},
            {"layer": "<script>alert(1)</script>", "step": "bootstrap", "level_in": 0, "level_out": 9},
        ]});
        let drawn = staircase(&report);
        assert!(!drawn.contains("<script"));
        assert!(drawn.contains("bootstrap in &lt;script"));
    }

    #[test]
    fn a_plot_stays_inside_its_box() {
        let points: Vec<[f64; 3]> = (1..40)
            .map(|i| [f64::from(i), 1.0 / f64::from(i), 1.001 / f64::from(i)])
            .collect();
        let drawn = plot("1/x", &points, true);
        for part in drawn.split("points=\"").skip(1) {
            let list = part.split('"').next().unwrap_or("");
            for pair in list.split(' ') {
                let (x, y) = pair.split_once(',').expect("a pair");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((46.0..=292.0).contains(&x) && (10.0..=190.0).contains(&y));
            }
        }
        assert!(samples(&json!({"points": [[0, 1, null]]})).is_none());
    }
}
