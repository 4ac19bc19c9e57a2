//! Firewall rules among whole nodes, under virtual time (`security.md` §13).

use receptor_core::firewall::Rules;
use receptor_core::node::io::{Command, Reply};
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::World;

const NEAR: usize = 0;
const HOP: usize = 1;
const FAR: usize = 2;

fn rules(list: &[&[(&str, &str)]]) -> Rules {
    let fields = list.iter().map(|rule| rule.iter().map(|&(k, v)| (k, Some(v))));
    Rules::from_fields(fields).expect("good rules")
}

/// `near`, `hop` and `far` in a line.
fn line(seed: u64, hop_rules: Rules) -> World {
    let mut world = World::new(seed);
    world.start(node("near", &[listener("near")]));
    let mut hop = node("hop", &[peer("near"), peer("far")]);
    hop.firewall = hop_rules;
    world.start(hop);
    world.start(node("far", &[listener("far")]));
    world.run_for(Duration::from_secs(7));
    assert_eq!(world.routes(NEAR).len(), 2);
    world
}

fn greeting(world: &mut World) -> String {
    world.control(NEAR, "connect far control ")
}

const GREETING: &str = "Connecting\nReceptor Control, node far\n";

#[test]
fn a_dial_that_is_rejected_on_the_way_fails_at_once_and_says_why() {
    let mut world = line(
        1,
        rules(&[&[("action", "reject"), ("toservice", "control"), ("tonode", "far")]]),
    );
    let began = world.elapsed();
    let text = greeting(&mut world);
    assert!(
        text.starts_with("ERROR: ") && text.contains("blocked by firewall"),
        "{text}"
    );
    assert!(world.elapsed() - began < Duration::from_secs(1));
    // Nothing else is hindered.
    assert!(world.control(NEAR, "ping far").contains(r#""Success":true"#));
}

#[test]
fn a_dial_that_is_dropped_on_the_way_times_out() {
    let mut world = line(
        2,
        rules(&[&[("action", "drop"), ("toservice", "control"), ("tonode", "far")]]),
    );
    let text = greeting(&mut world);
    assert!(text.contains("timeout: no recent network activity"), "{text}");
}

/// What comes back goes to a random service: a list that accepts needs a rule for it.
#[test]
fn a_stream_needs_both_directions() {
    let there: &[(&str, &str)] = &[("action", "accept"), ("tonode", "far"), ("toservice", "control")];
    let back: &[(&str, &str)] = &[("action", "accept"), ("fromnode", "far"), ("fromservice", "control")];
    let mut world = line(3, rules(&[there, back, &[("action", "drop")]]));
    assert_eq!(greeting(&mut world), GREETING);
    for half in [there, back] {
        let mut world = line(3, rules(&[half, &[("action", "drop")]]));
        let text = greeting(&mut world);
        assert!(text.starts_with("ERROR: "), "{text}");
    }
}

#[test]
fn a_ping_is_rejected_where_the_rule_is() {
    let mut world = line(
        4,
        rules(&[&[("action", "reject"), ("toservice", "ping"), ("fromnode", "near")]]),
    );
    let text = world.control(NEAR, "ping far");
    assert!(text.contains("blocked by firewall"), "{text}");
    let text = world.control(NEAR, "traceroute far");
    let hops: serde_json::Value = serde_json::from_str(&text).expect("an answer in JSON");
    assert_eq!(
        (&hops["1"]["From"], &hops["1"]["Error"], &hops["2"]),
        (&"hop".into(), &"blocked by firewall".into(), &serde_json::Value::Null),
        "{text}"
    );
}

/// As control nodes of AWX have it: nobody in the mesh uses the control service of this node.
#[test]
fn a_node_that_rejects_its_own_control_service_still_uses_that_of_others() {
    let mut world = World::new(5);
    let mut near = node("near", &[listener("near")]);
    near.firewall = rules(&[&[("action", "reject"), ("tonode", "near"), ("toservice", "control")]]);
    world.start(near);
    world.start(node("far", &[peer("near")]));
    world.run_for(Duration::from_secs(1));
    assert_eq!(greeting(&mut world), GREETING);
    let text = world.control(1, "connect near control ");
    assert!(text.contains("blocked by firewall"), "{text}");
    let submitted = world.control(NEAR, "work submit far cat\n");
    assert!(submitted.contains("Work unit created with ID"), "{submitted}");
}

#[test]
fn rules_are_replaced_while_the_node_runs() {
    let mut world = line(6, Rules::default());
    assert_eq!(greeting(&mut world), GREETING);
    let reject = rules(&[&[("action", "reject"), ("toservice", "/cont.*/")]]);
    assert_eq!(world.ask(HOP, Command::SetFirewall(reject)), Reply::Done);
    assert!(greeting(&mut world).contains("blocked by firewall"));
    assert_eq!(world.ask(HOP, Command::SetFirewall(Rules::default())), Reply::Done);
    assert_eq!(greeting(&mut world), GREETING);
    assert!(world.host(FAR).is_up());
}
