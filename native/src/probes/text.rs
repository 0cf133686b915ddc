//! The figures in Prometheus's text format.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::probes::figures::{BUCKETS_S, Figures, Histogram, OUTCOMES};

/// The format's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters of the engine that are told, with their names here and what they mean; gauges are marked.
const COUNTERS: &[(&str, &str, bool, &str)] = &[
    ("received", "messages_received_total", false, "Messages taken from the broker."),
    ("started", "tasks_started_total", false, "Tasks claimed by children."),
    ("scheduled", "messages_scheduled_total", false, "Messages put aside until their time."),
    ("handed_back", "messages_handed_back_total", false, "Messages returned because the reserve was too large."),
    ("soft_timeouts", "soft_timeouts_total", false, "Soft time limits hit."),
    ("hard_timeouts", "hard_timeouts_total", false, "Hard time limits hit."),
    ("terminated", "tasks_terminated_total", false, "Tasks terminated by request."),
    ("children_ended", "children_ended_total", false, "Children that ended."),
    ("children_lost", "children_lost_total", false, "Children that died with a task."),
    ("result_writes", "result_writes_total", false, "Result writes queued."),
    ("result_failures", "result_write_failures_total", false, "Result writes refused."),
    ("broker_requeued", "messages_requeued_total", false, "Messages put back into their queues."),
    ("redelivered", "messages_redelivered_total", false, "Messages that had been delivered before."),
    ("reclaimed", "messages_reclaimed_total", false, "Messages taken over from dead nodes."),
    ("leases_lost", "leases_lost_total", false, "Deliveries that went to other workers."),
    ("reconnects", "broker_reconnects_total", false, "Connections to the broker after the first."),
    ("held", "messages_held", true, "Messages held now: leases of this node."),
    ("ready", "tasks_ready", true, "Tasks ready to start now."),
    ("eta_held", "tasks_waiting_for_eta", true, "Messages that wait for their time now."),
    ("prefetch_target", "prefetch_target", true, "How many messages the node wants to hold."),
    ("children_alive", "pool_children", true, "Child processes."),
    ("children_busy", "pool_children_busy", true, "Child processes with a task."),
];

/// Writes everything.
#[must_use]
pub fn render(figures: &Figures, is_alive: bool, is_ready: bool) -> String {
    let mut text = String::with_capacity(4096);
    for (name, value, help) in
        [("alive", is_alive, "Whether the engine moves."), ("ready", is_ready, "Whether the node consumes.")]
    {
        head(&mut text, name, "gauge", help);
        let _ = writeln!(text, "pyworker_{name} {}", u8::from(value));
    }
    let counters = figures.counters();
    for (source, name, is_gauge, help) in COUNTERS {
        if let Some((_, value)) = counters.iter().find(|(counter, _)| counter == source) {
            head(&mut text, name, if *is_gauge { "gauge" } else { "counter" }, help);
            let _ = writeln!(text, "pyworker_{name} {value}");
        }
    }
    outcomes(&mut text, figures);
    histograms(&mut text, figures, "task_wait_seconds", "From a message's arrival here to its start.", |task| {
        &task.wait
    });
    histograms(&mut text, figures, "task_run_seconds", "From a task's start to its end.", |task| &task.run);
    gauges(&mut text, figures);
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP pyworker_{name} {help}\n# TYPE pyworker_{name} {kind}");
}

fn outcomes(text: &mut String, figures: &Figures) {
    head(text, "tasks_total", "counter", "Ends of tasks by outcome.");
    for task in &figures.tasks {
        for (outcome, count) in OUTCOMES.iter().zip(&task.ended) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let _ = writeln!(
                    text,
                    "pyworker_tasks_total{{task=\"{}\",outcome=\"{outcome}\"}} {count}",
                    Label(&task.name)
                );
            }
        }
    }
}

fn histograms(
    text: &mut String,
    figures: &Figures,
    name: &str,
    help: &str,
    of: impl Fn(&crate::probes::figures::TaskFigures) -> &Histogram,
) {
    head(text, name, "histogram", help);
    for task in &figures.tasks {
        let (counts, sum_s) = of(task).read();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            continue; // most applications have far more tasks than they run
        }
        let label = Label(&task.name);
        let mut below = 0;
        for (bound, count) in BUCKETS_S.iter().zip(counts) {
            below += count;
            let _ = writeln!(text, "pyworker_{name}_bucket{{task=\"{label}\",le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(
            text,
            "pyworker_{name}_bucket{{task=\"{label}\",le=\"+Inf\"}} {total}\n\
             pyworker_{name}_sum{{task=\"{label}\"}} {sum_s}\npyworker_{name}_count{{task=\"{label}\"}} {total}"
        );
    }
}

fn gauges(text: &mut String, figures: &Figures) {
    let mut last = String::new();
    for gauge in figures.gauges() {
        if gauge.name != last {
            head(text, &gauge.name, "gauge", &gauge.name.replace('_', " "));
            last.clone_from(&gauge.name);
        }
        let (label, value) = (&gauge.label.0, Label(&gauge.label.1));
        let _ = writeln!(text, "pyworker_{}{{{label}=\"{value}\"}} {}", gauge.name, gauge.value);
    }
}

/// A label's value, escaped.
struct Label<'a>(&'a str);

impl std::fmt::Display for Label<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::frames::Outcome;
    use crate::probes::figures::Gauge;

    #[test]
    fn figures_are_written_with_escaped_labels() {
        let figures = Figures::new(["a\"b\\".to_owned(), "never.run".to_owned()].into_iter());
        figures.on_started(0, 0.002);
        figures.on_ended(0, Outcome::Retry, 0.5);
        figures.copy(vec![("received".into(), 7), ("unknown".into(), 1)]);
        let label = ("queue".to_owned(), "q".to_owned());
        figures.set_gauges(vec![Gauge { name: "queue_depth".into(), label, value: 3.0 }]);
        let text = render(&figures, true, false);
        for line in [
            "pyworker_alive 1",
            "pyworker_ready 0",
            "pyworker_messages_received_total 7",
            "pyworker_tasks_total{task=\"a\\\"b\\\\\",outcome=\"retried\"} 1",
            "pyworker_task_wait_seconds_bucket{task=\"a\\\"b\\\\\",le=\"0.001\"} 0",
            "pyworker_task_wait_seconds_bucket{task=\"a\\\"b\\\\\",le=\"0.0025\"} 1",
            "pyworker_task_run_seconds_count{task=\"a\\\"b\\\\\"} 1",
            "pyworker_queue_depth{queue=\"q\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("never.run") && !text.contains("unknown"));
    }
}
