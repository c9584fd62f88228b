//! JUnit's XML, which every CI system shows.

use std::fmt::Write as _;

use super::answer::Checked;

/// The report of a smoke test.
pub fn report(suite: &str, all: &[Checked]) -> String {
    let failures = all.iter().filter(|checked| !checked.passed).count();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let time = seconds(all.iter().map(|checked| checked.took_ms).sum());
    let (suite, count) = (escaped(suite), all.len());
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{count}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time}\">\n"
    );
    for checked in all {
        let (name, time) = (escaped(&checked.name), seconds(checked.took_ms));
        // Writing to a String can't fail.
        let _ = write!(out, "    <testcase classname=\"{suite}\" name=\"{name}\" time=\"{time}\"");
        if checked.passed {
            out += "/>\n";
        } else {
            let (first, rest) = (escaped(&checked.sentence), escaped(&checked.problems.join("\n")));
            let _ = write!(out, ">\n      <failure message=\"{first}\">{rest}</failure>\n    </testcase>\n");
        }
    }
    out + "  </testsuite>\n</testsuites>\n"
}

/// Text for an attribute or an element. What XML can't have at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_a_service_says_can_not_break_the_report() {
        let of = |name: &str, problem: &str| Checked {
            name: name.to_owned(),
            passed: problem.is_empty(),
            sentence: format!("GET /: {problem}"),
            problems: vec![problem.to_owned()],
            took_ms: 1250,
            attempts: 1,
        };
        let all = [of("up", ""), of("a \"b\" & <c>", "the body is \"</failure>\u{1}\n]]>\"")];
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuites>
              <testsuite name="smoke.toml" tests="2" failures="1" errors="0" skipped="0" time="2.5">
                <testcase classname="smoke.toml" name="up" time="1.25"/>
                <testcase classname="smoke.toml" name="a &quot;b&quot; &amp; &lt;c&gt;" time="1.25">
                  <failure message="GET /: the body is &quot;&lt;/failure&gt;&#10;]]&gt;&quot;">the body is &quot;&lt;/failure&gt;&#10;]]&gt;&quot;</failure>
                </testcase>
              </testsuite>
            </testsuites>
        "#]]
        .assert_eq(&report("smoke.toml", &all));
    }
}
