//! Our daemons next to Go nodes over TCP links while nodes are lost and return. What a mesh does that stays as it is, is in
//! `live_go_matrix`.
//!
//! | mesh (`–` is a link, dialled by its right end) | run |
//! |---|---|
//! | Go – ours – Go, ours – Go – ours | loss and return of the middle and of an end: routes, costs, advertisements, ping, traceroute |
//! | ours – Go – Go – ours – the first, a ring | costs decide the path; a lost node moves it |

use std::collections::BTreeMap;
use std::time::Duration;

use receptor_tests::live::{Builder, Node, Scratch, free_port, go_node, routes, until, wait_for_routes};
use serde_json::{Value, json};

/// Go advertises about 5 s after its start and then once a minute. Nothing is sent to a neighbour at link-up (`wire.md` §16), so
/// one that comes back only after those 5 s, as redialling has it, hears of the service with the next round.
const LIMIT: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Go,
}
use Kind::{Go, Ours};

/// A chain `n0 – n1 – …`, with `costs[i]` between `n(i)` and `n(i+1)`, or `None` without the Go node.
fn mixed_chain(scratch: &Scratch, kinds: &[Kind], costs: &[f64]) -> Option<Vec<Node>> {
    let go = go_node()?;
    let ports: Vec<_> = kinds.iter().map(|_| free_port()).collect();
    let start = |(n, kind): (usize, &Kind)| {
        let mut builder = Builder::new(scratch, &format!("n{n}")).work();
        if *kind == Go {
            builder = builder.binary(go);
        }
        builder = builder.listen(ports[n], costs.get(n).copied().unwrap_or(1.0));
        if n > 0 {
            builder = builder.peer(ports[n - 1], costs[n - 1]);
        }
        builder.start()
    };
    let nodes: Vec<_> = kinds.iter().enumerate().map(start).collect();
    wait_for_routes(&nodes);
    Some(nodes)
}

/// Waits until every node has exactly these costs.
fn wait_for_costs(nodes: &[Node], expected: &Value) {
    for node in nodes {
        until(&format!("{} knows all costs", node.id), LIMIT, || {
            let status = node.try_status()?;
            let costs = &status["KnownConnectionCosts"];
            if same_numbers(costs, expected) {
                Ok(())
            } else {
                Err(costs.to_string())
            }
        });
    }
}

/// Compares cost tables, `1` and `1.0` being the same.
fn same_numbers(left: &Value, right: &Value) -> bool {
    let table = |value: &Value| -> Option<BTreeMap<String, BTreeMap<String, u64>>> {
        let rows = value.as_object()?.iter().map(|(node, row)| {
            let row = row
                .as_object()?
                .iter()
                .map(|(to, cost)| Some((to.clone(), cost.as_f64()?.to_bits())));
            Some((node.clone(), row.collect::<Option<_>>()?))
        });
        rows.collect()
    };
    table(left).is_some() && table(left) == table(right)
}

/// Every node sees the control service of every node, with all its work types.
fn wait_for_adverts(nodes: &[Node]) {
    for node in nodes {
        until(&format!("{} sees every control service", node.id), LIMIT, || {
            let status = node.try_status()?;
            let adverts: Vec<_> = status["Advertisements"].as_array().into_iter().flatten().collect();
            for other in nodes {
                let mut of_other = adverts.iter().filter(|advert| advert["NodeID"] == other.id.as_str());
                let advert = of_other.find(|advert| advert["Service"] == "control");
                let advert = advert.ok_or_else(|| format!("none of {} in {adverts:?}", other.id))?;
                let types = advert["WorkCommands"].as_array().map_or(0, Vec::len);
                if advert["ConnType"] != 1 || advert["Tags"] != json!({ "type": "Control Service" }) || types != 5 {
                    return Err(advert.to_string());
                }
            }
            Ok(())
        });
    }
}

/// Every node pings every node, and traces the way to the ends of the chain.
fn ping_and_trace(nodes: &[Node]) {
    for (from, node) in nodes.iter().enumerate() {
        for (to, other) in nodes.iter().enumerate() {
            let answer = until(&format!("{} answers {}", other.id, node.id), LIMIT, || {
                let answer = node.control().json(&format!("ping {}", other.id))?;
                if answer["Success"] == true {
                    Ok(answer)
                } else {
                    Err(answer.to_string())
                }
            });
            assert_eq!(answer["From"], other.id.as_str(), "{answer}");
            // A node of ours answers itself at once.
            assert!(
                answer["Time"].as_u64().is_some_and(|time| time > 0 || to == from),
                "{answer}"
            );

            let answer = node
                .control()
                .json(&format!("traceroute {}", other.id))
                .expect("an answer");
            let hops = answer.as_object().expect("an object");
            assert_eq!(
                hops.len(),
                from.abs_diff(to) + 1,
                "{} to {}: {answer}",
                node.id,
                other.id
            );
            for hop in 0..hops.len() {
                let at = if to > from { from + hop } else { from - hop };
                let hop = &hops[&hop.to_string()];
                assert_eq!(
                    hop["From"],
                    nodes[at].id.as_str(),
                    "{} to {}: {answer}",
                    node.id,
                    other.id
                );
                assert!(hop.get("Error").is_none(), "{answer}");
            }
        }
        let answer = node.control().json("ping nowhere").expect("an answer");
        assert_eq!(answer, json!({ "Success": false, "Error": "no route to node" }));
    }
}

fn wait_until_lost(node: &Node, gone: &[&str]) {
    until(&format!("{} has no route to {gone:?}", node.id), LIMIT, || {
        let status = node.try_status()?;
        let table = routes(&status);
        if gone.iter().any(|id| table.contains_key(*id)) {
            Err(status.to_string())
        } else {
            Ok(())
        }
    });
}

/// When `of` advertised its control service, as `node` knows it.
fn advertised(node: &Node, of: &str) -> Result<String, String> {
    let status = node.try_status()?;
    let mut adverts = status["Advertisements"].as_array().into_iter().flatten();
    let advert = adverts.find(|advert| advert["NodeID"] == of && advert["Service"] == "control");
    let time = advert.and_then(|advert| advert["Time"].as_str());
    time.map(str::to_owned)
        .ok_or_else(|| format!("{} knows none of {of}", node.id))
}

/// Kills one node of a chain of three, checks what the others notice, and lets it return.
fn lose_and_return(nodes: &mut [Node], index: usize) {
    let others: Vec<_> = (0..nodes.len()).filter(|&other| other != index).collect();
    let id = nodes[index].id.clone();
    let before: Vec<_> = others.iter().map(|&other| advertised(&nodes[other], &id)).collect();
    nodes[index].kill();
    match index {
        1 => {
            wait_until_lost(&nodes[0], &["n1", "n2"]);
            wait_until_lost(&nodes[2], &["n0", "n1"]);
        }
        _ => {
            wait_until_lost(&nodes[0], &["n2"]);
            wait_until_lost(&nodes[1], &["n2"]);
        }
    }
    let answer = nodes[0].control().json("ping n2").expect("an answer");
    assert_eq!(answer["Error"], "no route to node", "{answer}");
    nodes[index].start_again();
    until("all routes are back", LIMIT, || {
        let lacks = |node: &Node| Ok::<_, String>(routes(&node.try_status()?).len() < 2);
        for node in &*nodes {
            if lacks(node)? {
                return Err(format!("{} has not", node.id));
            }
        }
        Ok(())
    });
    // A Go node tells a new neighbour only its own advertisements, and those every 60 s: only the returned one's are waited for.
    for (other, before) in others.into_iter().zip(before) {
        until("the returned node advertises again", LIMIT, || {
            let now = advertised(&nodes[other], &id)?;
            if Ok(&now) == before.as_ref() { Err(now) } else { Ok(()) }
        });
    }
    ping_and_trace(nodes);
}

fn chain_of_three(kinds: [Kind; 3]) {
    let scratch = Scratch::new();
    let Some(mut nodes) = mixed_chain(&scratch, &kinds, &[1.0, 2.25]) else {
        return;
    };
    let costs = json!({ "n0": { "n1": 1.0 }, "n1": { "n0": 1.0, "n2": 2.25 }, "n2": { "n1": 2.25 } });
    // The one in the middle has two listeners' worth of costs: its own is 2.25.
    wait_for_costs(&nodes, &costs);
    wait_for_adverts(&nodes);
    ping_and_trace(&nodes);
    lose_and_return(&mut nodes, 1);
    wait_for_costs(&nodes, &costs);
    lose_and_return(&mut nodes, 2);
    wait_for_costs(&nodes, &costs);
}

#[test]
fn ours_between_two_go_nodes() {
    chain_of_three([Go, Ours, Go]);
}

#[test]
fn a_go_node_between_two_of_ours() {
    chain_of_three([Ours, Go, Ours]);
}

#[test]
fn a_ring_of_both_kinds_takes_the_cheaper_way_and_the_other_when_it_is_cut() {
    let Some(go) = go_node() else { return };
    let scratch = Scratch::new();
    let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
    let node = |n: usize, kind: Kind| {
        let builder = Builder::new(&scratch, &format!("n{n}")).work();
        if kind == Go { builder.binary(go) } else { builder }
    };
    // n0 (ours) – n1 (Go) – n3 (Go) costs 1 + 2; n0 – n2 (ours) – n3 costs 2 + 3.
    let mut nodes = vec![
        node(0, Ours)
            .listen(ports[0], 1.0)
            .with("tcp-listener", "nodecost", "{\"n2\": 2}")
            .start(),
        node(1, Go).listen(ports[1], 2.0).peer(ports[0], 1.0).start(),
        node(2, Ours).listen(ports[2], 3.0).peer(ports[0], 2.0).start(),
        node(3, Go).peer(ports[1], 2.0).peer(ports[2], 3.0).start(),
    ];
    wait_for_routes(&nodes);
    let next_hops = |nodes: &[Node], hops: [(usize, &str, &str); 4]| {
        until("everybody takes the cheapest way", LIMIT, || {
            for (node, to, via) in hops {
                let table = routes(&nodes[node].try_status()?);
                if table.get(to).is_none_or(|next| next != via) {
                    return Err(format!("n{node}: {table:?}"));
                }
            }
            Ok(())
        });
    };
    next_hops(
        &nodes,
        [(0, "n3", "n1"), (3, "n0", "n1"), (1, "n2", "n0"), (2, "n1", "n0")],
    );
    wait_for_adverts(&nodes);

    nodes[1].kill();
    wait_until_lost(&nodes[0], &["n1"]);
    next_hops(
        &nodes,
        [(0, "n3", "n2"), (3, "n0", "n2"), (2, "n0", "n0"), (2, "n3", "n3")],
    );
    let answer = nodes[0].control().json("ping n3").expect("an answer");
    assert_eq!(answer["Success"], true, "{answer}");
    nodes[1].start_again();
    next_hops(
        &nodes,
        [(0, "n3", "n1"), (3, "n0", "n1"), (1, "n2", "n0"), (2, "n1", "n0")],
    );
    let answer = nodes[3].control().json("ping n0").expect("an answer");
    assert_eq!(answer["Success"], true, "{answer}");
}
