//! The alert rules: valid, tested, and each says what to do.

use std::collections::BTreeSet;
use std::process::Command;

use crate::names::samples;
use crate::{file, promql, read, stage};

const RULES: &str = "deploy/alerts.yml";
const TESTS: &str = "deploy/alerts.test.yml";

fn promtool(args: &[&str], path: &str) {
    let output = Command::new("promtool").args(args).arg(file(path)).output();
    let output = output.expect("promtool is installed (Debian: prometheus)");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// One rule, as far as it is looked at here.
#[derive(Default, Debug)]
struct Rule {
    name: String,
    expression: String,
    /// `severity: …` and the annotations' names.
    said: BTreeSet<String>,
}

/// The rules of a file that is written as ours is: two spaces a level, an expression on its line or
/// indented below it.
fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut in_expression = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("      - alert: ") {
            rules.push(Rule {
                name: name.to_owned(),
                ..Rule::default()
            });
            continue;
        }
        let Some(rule) = rules.last_mut() else {
            continue;
        };
        let (key, value) = line.split_once(": ").unwrap_or((line, ""));
        if let Some(expression) = line.strip_prefix("        expr: ") {
            in_expression = expression == "|";
            if !in_expression {
                rule.expression = expression.to_owned();
            }
        } else if in_expression && line.starts_with("          ") {
            rule.expression += line;
        } else {
            in_expression = false;
            let short = value.trim_matches(['\'', '"']).len() < 15;
            match key.trim() {
                "labels" => drop(rule.said.insert(value.to_owned())),
                annotation if line.starts_with("          ") && !short => {
                    rule.said.insert(annotation.to_owned());
                }
                _ => {}
            }
        }
    }
    rules
}

#[test]
fn the_rules_are_valid_and_fire_when_they_should_and_only_then() {
    promtool(&["check", "rules"], RULES);
    promtool(&["test", "rules"], TESTS);
}

#[test]
fn every_alert_is_tested_both_ways_and_says_what_to_do() {
    let tests = read(TESTS);
    let rules = rules(&read(RULES));
    assert!(rules.len() >= 20, "{rules:?}");
    for Rule { name, said, .. } in &rules {
        let severity = ["{severity: critical}", "{severity: warning}"];
        assert!(
            severity.iter().any(|one| said.contains(*one)),
            "{name}: {said:?}"
        );
        for annotation in ["summary", "description", "action"] {
            assert!(said.contains(annotation), "{name} has no {annotation}");
        }
        let own: Vec<_> = tests
            .split("  - name: ")
            .filter(|test| test.contains(&format!("alertname: {name}\n")))
            .collect();
        assert!(
            own.iter().any(|test| test.contains("- exp_labels: ")),
            "{name} is never seen firing"
        );
        // Among the series is one that must not fire: promtool refuses alerts that are not expected.
        let quiet = own.iter().any(|test| {
            let good = test.contains("instance=\"good\"");
            good || test.matches("series:").count() > test.matches("exp_labels").count() + 1
        });
        assert!(quiet, "{name} is never seen quiet");
    }
}

#[test]
fn every_metric_of_the_rules_is_in_a_scrape() {
    let known = samples(stage::scrape());
    for rule in rules(&read(RULES)) {
        let names = promql::metrics(&rule.expression);
        assert!(!names.is_empty(), "{rule:?}");
        for name in names {
            // Prometheus' own, for each target.
            let known = name == "up" || known.contains(&name);
            assert!(known, "{} asks for {name}", rule.name);
        }
    }
}
