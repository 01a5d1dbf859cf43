//! JUnit XML: one test suite a level.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::super::outcome::{Check, Outcome};
use super::Report;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut junit = quick_junit::Report::new(&report.command);
    let mut levels: Vec<&str> = Vec::new();
    for level in report.checks.iter().map(|check| check.level.name()) {
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    for level in levels {
        let mut suite = TestSuite::new(level);
        suite.add_test_cases(report.checks.iter().filter(|c| c.level.name() == level).map(test_case));
        junit.add_test_suite(suite);
    }
    junit.serialize(&mut *out).map_err(io::Error::other)
}

fn test_case(check: &Check) -> TestCase {
    let mut status = match check.outcome {
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Skip => TestCaseStatus::skipped(),
        Outcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        // Not judged is an error in JUnit's words, and red.
        Outcome::NoDevice | Outcome::MissingGolden | Outcome::UnexpectedPass => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
    };
    if check.outcome != Outcome::Pass {
        let cause = check.looks_like.as_ref().map(|cause| format!("\nlooks like: {cause}")).unwrap_or_default();
        status.set_message(format!("{}{cause}", check.detail));
        status.set_type(check.outcome.name());
    }
    TestCase::new(check.name.clone(), status)
}
