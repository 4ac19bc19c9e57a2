//! Firewall rules: which data messages a node lets pass (`security.md` §13).
//!
//! A rule is an action and up to four conditions, on the nodes and services a message comes from and goes to. The first rule
//! whose conditions all hold decides; where none does, the message passes.

mod pattern;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

pub use pattern::Pattern;

/// What is done with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It passes.
    Accept,
    /// It is discarded and its source told so (`blocked by firewall`).
    Reject,
    /// It is discarded.
    Drop,
}

impl Action {
    /// The word in a configuration, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

/// Why a list of rules cannot be used; a text that names the rule, counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleError(String);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for RuleError {}

/// One rule. A rule without conditions always matches.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What it says.
    pub action: Action,
    /// Condition on the source node.
    pub from_node: Option<Pattern>,
    /// Condition on the destination node.
    pub to_node: Option<Pattern>,
    /// Condition on the source service.
    pub from_service: Option<Pattern>,
    /// Condition on the destination service.
    pub to_service: Option<Pattern>,
}

impl Rule {
    /// A rule that always matches.
    pub const fn new(action: Action) -> Self {
        Self {
            action,
            from_node: None,
            to_node: None,
            from_service: None,
            to_service: None,
        }
    }

    /// Reads a rule as a configuration has it: keys in any letter case, and their texts; `None` for a value that is no text.
    ///
    /// # Errors
    /// The classic texts for an unknown or missing action, an unknown key and a value that is no text; besides, a key given
    /// twice and a [`Pattern`] that cannot be read, neither of which the classic node finds.
    pub fn from_fields<'a>(fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<Self, String> {
        let mut rule = Self::new(Action::Accept);
        let mut action = None;
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in fields {
            let value = value.ok_or_else(|| alloc::format!("invalid firewall rule. {key} must be a string"))?;
            let name = key.to_ascii_lowercase();
            if seen.contains(&name) {
                return Err(alloc::format!("invalid firewall rule. {key} is given twice"));
            }
            let condition = match name.as_str() {
                "action" => {
                    action = Some(value);
                    seen.push(name);
                    continue;
                }
                "fromnode" => &mut rule.from_node,
                "tonode" => &mut rule.to_node,
                "fromservice" => &mut rule.from_service,
                "toservice" => &mut rule.to_service,
                // The spelling is the classic one.
                _ => return Err(alloc::format!("invalid filewall rule. unknown key: {key}")),
            };
            if !value.is_empty() {
                *condition = Some(Pattern::new(value).map_err(|error| alloc::format!("{key}: {error}"))?);
            }
            seen.push(name);
        }
        let word = action.unwrap_or_default();
        rule.action = [Action::Accept, Action::Reject, Action::Drop]
            .into_iter()
            .find(|action| action.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| alloc::format!("unknown action: {word}"))?;
        Ok(rule)
    }

    /// Whether all conditions hold for a message.
    pub fn matches(&self, message: &Ends<'_>) -> bool {
        let holds = |pattern: &Option<Pattern>, text: &[u8]| pattern.as_ref().is_none_or(|p| p.matches(text));
        // Services first: they are short.
        holds(&self.to_service, message.to_service)
            && holds(&self.from_service, message.from_service)
            && holds(&self.to_node, message.to_node.as_bytes())
            && holds(&self.from_node, message.from_node.as_bytes())
    }
}

/// Where a message comes from and goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends<'a> {
    /// The node that made it.
    pub from_node: &'a str,
    /// The node it is for.
    pub to_node: &'a str,
    /// The service that sent it, without padding. Any bytes: it comes from the wire.
    pub from_service: &'a [u8],
    /// The service it is for, without padding.
    pub to_service: &'a [u8],
}

/// What a list of rules says of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The rule that decided, counted from 0; `None` if none matched.
    pub rule: Option<usize>,
}

/// A list of rules, checked. Cheap to clone. The default is no rule: everything passes.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Rules(Arc<[Rule]>);

impl Rules {
    /// Most rules of a list.
    pub const MAX: usize = 1000;

    /// A list of these rules.
    ///
    /// # Errors
    /// More than [`Rules::MAX`].
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        if rules.len() > Self::MAX {
            return Err(RuleError(alloc::format!(
                "{} firewall rules are too many: at most {}",
                rules.len(),
                Self::MAX
            )));
        }
        Ok(Self(rules.into()))
    }

    /// Reads a list as a configuration has it, see [`Rule::from_fields`].
    ///
    /// # Errors
    /// Too many rules, or the first one that cannot be read: `error in rule N: ` and why.
    pub fn from_fields<'a, R>(rules: impl IntoIterator<Item = R>) -> Result<Self, RuleError>
    where
        R: IntoIterator<Item = (&'a str, Option<&'a str>)>,
    {
        let rules: Result<_, _> = rules
            .into_iter()
            .enumerate()
            .map(|(number, fields)| {
                Rule::from_fields(fields).map_err(|error| RuleError(alloc::format!("error in rule {number}: {error}")))
            })
            .collect();
        Self::new(rules?)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules in order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.0
    }

    /// What the rules say of a message.
    pub fn decide(&self, message: &Ends<'_>) -> Decision {
        match self.0.iter().position(|rule| rule.matches(message)) {
            Some(rule) => Decision {
                action: self.0[rule].action,
                rule: Some(rule),
            },
            None => Decision {
                action: Action::Accept,
                rule: None,
            },
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action: {}", self.action.as_str())?;
        for (key, pattern) in [
            ("fromnode", &self.from_node),
            ("tonode", &self.to_node),
            ("fromservice", &self.from_service),
            ("toservice", &self.to_service),
        ] {
            if let Some(pattern) = pattern {
                write!(f, ", {key}: {pattern}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn rule(fields: &[(&str, &str)]) -> Result<Rule, String> {
        Rule::from_fields(fields.iter().map(|&(key, value)| (key, Some(value))))
    }

    fn rules(list: &[&[(&str, &str)]]) -> Result<Rules, String> {
        let fields = list.iter().map(|rule| rule.iter().map(|&(k, v)| (k, Some(v))));
        Rules::from_fields(fields).map_err(|error| error.to_string())
    }

    fn ends<'a>(from_node: &'a str, to_node: &'a str, from_service: &'a str, to_service: &'a str) -> Ends<'a> {
        Ends {
            from_node,
            to_node,
            from_service: from_service.as_bytes(),
            to_service: to_service.as_bytes(),
        }
    }

    #[test]
    fn keys_and_actions_have_any_case_and_texts_do_not() {
        let rule = rule(&[("Action", "REJECT"), ("FROMNODE", "Foo"), ("toService", "")]).unwrap();
        assert_eq!((rule.action, rule.to_service.is_none()), (Action::Reject, true));
        assert!(rule.matches(&ends("Foo", "x", "a", "b")));
        assert!(!rule.matches(&ends("foo", "x", "a", "b")));
        assert_eq!(rule.to_string(), "action: reject, fromnode: Foo");
    }

    #[test]
    fn mistakes_have_the_classic_texts_and_name_the_rule() {
        for (fields, text) in [
            (&[("action", "deny")][..], "unknown action: deny"),
            (&[], "unknown action: "),
            (&[("tonode", "a")], "unknown action: "),
            (&[("action", "")], "unknown action: "),
            (
                &[("action", "drop"), ("node", "a")],
                "invalid filewall rule. unknown key: node",
            ),
            (
                &[("action", "drop"), ("Action", "accept")],
                "invalid firewall rule. Action is given twice",
            ),
            (
                &[("action", "drop"), ("ToNode", "/foo")],
                "ToNode: the regular expression \"/foo\" has no closing /",
            ),
        ] {
            assert_eq!(rule(fields), Err(text.into()));
            assert_eq!(
                rules(&[&[("action", "accept")], fields]),
                Err(alloc::format!("error in rule 1: {text}"))
            );
        }
        assert_eq!(
            Rule::from_fields([("tonode", None)]),
            Err("invalid firewall rule. tonode must be a string".into())
        );
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(&[
            &[("action", "accept"), ("fromnode", "a"), ("toservice", "control")],
            &[("action", "drop"), ("toservice", "control")],
            &[("action", "reject"), ("tonode", "/(?i)edge-[0-9]+/")],
        ])
        .unwrap();
        let decide = |from, to, to_service| {
            let decision = rules.decide(&ends(from, to, "x", to_service));
            (decision.action, decision.rule)
        };
        assert_eq!(decide("a", "EDGE-7", "control"), (Action::Accept, Some(0)));
        assert_eq!(decide("b", "EDGE-7", "control"), (Action::Drop, Some(1)));
        assert_eq!(decide("b", "EDGE-7", "other"), (Action::Reject, Some(2)));
        assert_eq!(decide("b", "EDGE-7x", "other"), (Action::Accept, None));
        assert!(Rules::default().is_empty());
        assert_eq!(
            Rules::default().decide(&ends("a", "b", "c", "d")).action,
            Action::Accept
        );
    }

    #[test]
    fn a_rule_without_conditions_always_matches() {
        let rules = rules(&[&[("action", "drop")], &[("action", "accept")]]).unwrap();
        assert_eq!(rules.decide(&ends("a", "b", "c", "d")).rule, Some(0));
    }

    #[test]
    fn the_number_of_rules_is_bounded() {
        let list = |count| Rules::new(alloc::vec![Rule::new(Action::Accept); count]);
        assert!(list(Rules::MAX).is_ok());
        assert_eq!(
            list(Rules::MAX + 1).unwrap_err().to_string(),
            "1001 firewall rules are too many: at most 1000"
        );
    }
}
