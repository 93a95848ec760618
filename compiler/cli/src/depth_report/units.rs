//! Numbers as people read them.

use serde_json::Value;

/// Three significant digits, in scientific notation outside 0.001 to 100,000.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return "-".into();
    }
    if x == 0.0 {
        return "0".into();
    }
    let size = x.abs();
    if !(1e-3..1e5).contains(&size) {
        return format!("{x:.1e}");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

/// Seconds: `12.3 s`, `210 ms`, `4.2 min`, `1.5 h`.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() {
        "-".into()
    } else if s == 0.0 {
        "0 s".into()
    } else if s < 1.0 {
        format!("{} ms", number(s * 1e3))
    } else if s < 300.0 {
        format!("{} s", number(s))
    } else if s < 7200.0 {
        format!("{} min", number(s / 60.0))
    } else {
        format!("{} h", number(s / 3600.0))
    }
}

/// Bytes in powers of 1000: `6.51 GB`.
pub fn bytes(b: f64) -> String {
    let steps = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let unit = steps.into_iter().find(|(size, _)| b >= *size);
    match unit {
        Some((size, name)) => format!("{} {name}", number(b / size)),
        None => format!("{} bytes", number(b)),
    }
}

/// A whole number with thousands separated.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(d);
    }
    text
}

/// `n thing`, `n things`.
pub fn plural(n: u64, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(n))
}

/// Cuts the middle out of a text longer than `width` characters; control characters become spaces.
pub fn fit(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let characters: Vec<char> = text.chars().map(clean).collect();
    if characters.len() <= width {
        return characters.into_iter().collect();
    }
    // The end of a scoped name says more than its middle.
    let tail = width.saturating_sub(1) * 2 / 3;
    let head = width.saturating_sub(1 + tail);
    let (first, last) = (
        characters.iter().take(head),
        characters.iter().skip(characters.len() - tail),
    );
    first.chain(std::iter::once(&'…')).chain(last).collect()
}

/// The text of a value: `-` for null.
pub fn show(v: &Value) -> String {
    match v {
        Value::Null => "-".into(),
        Value::String(s) => fit(s, 60),
        v => v.to_string(),
    }
}

/// A value as a number, if it is one.
pub fn float(v: &Value) -> Option<f64> {
    v.as_f64().filter(|x| x.is_finite())
}

/// An interval `[lo, hi]` as text.
pub fn interval(v: &Value) -> Option<String> {
    let (lo, hi) = (float(v.get(0)?)?, float(v.get(1)?)?);
    Some(format!("[{}, {}]", number(lo), number(hi)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_for_the_eye() {
        assert_eq!(number(0.000_114_127), "1.1e-4");
        assert_eq!(number(1530.16), "1530");
        assert_eq!(number(0.3), "0.3");
        assert_eq!(number(10.0), "10");
        assert_eq!(seconds(0.296), "296 ms");
        assert_eq!(seconds(27.67), "27.7 s");
        assert_eq!(seconds(3600.0), "60 min");
        assert_eq!(bytes(249_495_552.0), "249 MB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "bootstrap"), "1 bootstrap");
    }

    #[test]
    fn long_names_keep_their_ends_and_lose_control_characters() {
        let name = "encoder.layers.0.attention.self.query\u{1b}[31m";
        let cut = fit(name, 20);
        assert_eq!(cut.chars().count(), 20);
        assert!(cut.starts_with("encode") && cut.contains('…') && !cut.contains('\u{1b}'));
        assert_eq!(fit("short", 20), "short");
    }
}
