//! The results of a smoke test as JUnit XML, which CI systems display.

use std::fmt::Write as _;

use super::answer::CheckedRequest;

/// Returns the results of the smoke test named `suite` as a JUnit XML document.
pub fn report(suite: &str, results: &[CheckedRequest]) -> String {
    let failures = results.iter().filter(|checked| !checked.passed).count();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let time = seconds(results.iter().map(|checked| checked.took_ms).sum());
    let (suite, count) = (escaped(suite), results.len());
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{count}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time}\">\n"
    );
    for checked in results {
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

/// Escapes text for an attribute or an element, and drops the characters that XML can't hold.
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
    fn the_text_of_an_answer_can_not_break_the_xml() {
        let checked = |name: &str, problem: &str| CheckedRequest {
            name: name.to_owned(),
            passed: problem.is_empty(),
            sentence: format!("GET /: {problem}"),
            problems: vec![problem.to_owned()],
            took_ms: 1250,
            attempts: 1,
        };
        let results = [checked("up", ""), checked("a \"b\" & <c>", "the body is \"</failure>\u{1}\n]]>\"")];
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
        .assert_eq(&report("smoke.toml", &results));
    }
}
