//! Takes out of a failing plan what the failure does not need.

use crate::plan::{Action, Plan, Step};

/// A smaller plan that still fails. `fails` is asked `budget` times at most.
///
/// First steps go, in ever smaller pieces; then time, transfers and units are halved while that helps. Chance is drawn by purpose,
/// so what is left goes on as it did.
pub fn shrink(plan: &Plan, budget: usize, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut asked = 0;
    let mut try_one = |candidate: Plan, best: &mut Plan| {
        if asked == budget {
            return false;
        }
        asked += 1;
        let is_smaller = fails(&candidate);
        if is_smaller {
            *best = candidate;
        }
        is_smaller
    };
    let mut size = best.steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let mut candidate = best.clone();
            candidate.steps.drain(at..(at + size).min(best.steps.len()));
            if !try_one(candidate, &mut best) {
                at += size;
            }
        }
        size /= 2;
    }
    while let Some(candidate) = sooner_over(&best) {
        if !try_one(candidate, &mut best) {
            break;
        }
    }
    for at in 0..best.steps.len() {
        while let Some(action) = halved(best.steps[at].action) {
            let mut candidate = best.clone();
            candidate.steps[at].action = action;
            if !try_one(candidate, &mut best) {
                break;
            }
        }
    }
    best
}

/// The same with less time after the last step.
fn sooner_over(plan: &Plan) -> Option<Plan> {
    let last = plan.steps.iter().map(|step: &Step| step.at).max().unwrap_or(0);
    let secs = (plan.secs / 2).max(last.div_ceil(1000)).max(1);
    (secs < plan.secs).then(|| Plan { secs, ..plan.clone() })
}

/// The same deed with half of the bytes or the time.
fn halved(action: Action) -> Option<Action> {
    let half = match action {
        Action::Transfer {
            node,
            to,
            there,
            back,
            reads,
        } => Action::Transfer {
            node,
            to,
            there: there / 2,
            back: back / 2,
            reads,
        },
        Action::Submit {
            node,
            to,
            program,
            size,
        } => Action::Submit {
            node,
            to,
            program,
            size: size / 2,
        },
        Action::Freeze { node, ms } => Action::Freeze { node, ms: ms / 2 },
        _ => return None,
    };
    (half != action).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Swarm;

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let plan = Swarm::draw(3).plan(12, 120);
        let needed = |action: &Action| {
            matches!(
                action,
                Action::Ping { node: 1, .. } | Action::Transfer { there: 100.., .. }
            )
        };
        let count = |plan: &Plan| plan.steps.iter().filter(|step| needed(&step.action)).count();
        let wanted = count(&plan);
        assert!(
            wanted > 2 && plan.steps.len() > 3 * wanted,
            "{wanted} of {}",
            plan.steps.len()
        );
        let small = shrink(&plan, 100_000, |plan| count(plan) == wanted);
        assert_eq!(small.steps.len(), wanted);
        for step in &small.steps {
            if let Action::Transfer { there, .. } = step.action {
                assert!((100..200).contains(&there), "{step:?}");
            }
        }
    }

    #[test]
    fn it_asks_no_more_often_than_it_may() {
        let plan = Swarm::draw(3).plan(12, 120);
        let mut asked = 0;
        let small = shrink(&plan, 7, |_| {
            asked += 1;
            false
        });
        assert_eq!((asked, small), (7, plan));
    }
}
