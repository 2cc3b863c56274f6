//! `--on`: the nodes that a release is for, by their labels, as it is typed and shown; and, of what nodes tell, the one node
//! that is asked.

use std::collections::{BTreeMap, HashMap};

use hot_proto::v1::Labels;

/// Which nodes run it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct OnArgs {
    /// Run it only on nodes with this label; several must all hold; `all`: everywhere [default: as what is stable]
    #[arg(long, value_name = "LABEL=VALUE", value_parser = parse)]
    on: Vec<On>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum On {
    All,
    Label(String, String),
}

fn parse(text: &str) -> Result<On, String> {
    if text == "all" {
        return Ok(On::All);
    }
    let pair = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = pair.ok_or(
        "expected LABEL=VALUE, e.g. zone=a, or `all`; for one node give it a label of its own, below [cluster.labels] in its config",
    )?;
    Ok(On::Label(name.to_owned(), value.to_owned()))
}

/// The name of a node, where others choose by labels. An empty one is a variable that is not set.
pub(crate) fn parse_node(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "all" || text.contains('=') {
        return Err("expected the name of one node, as `hotctl nodes` has it; labels are for push and plan, and all nodes are \
                    asked without --on"
            .to_owned());
    }
    Ok(text.to_owned())
}

impl OnArgs {
    /// What was typed. None: as what is stable.
    pub(crate) fn labels(&self) -> Result<Option<Labels>, String> {
        let mut labels = HashMap::new();
        for on in &self.on {
            match on {
                On::All if self.on.len() > 1 => {
                    return Err("--on all stands alone: it lifts what other labels would ask for".to_owned());
                }
                On::All => {}
                On::Label(name, value) => {
                    if let Some(other) =
                        labels.insert(name.clone(), value.clone()).filter(|other| other != value)
                    {
                        return Err(format!(
                            "--on asks for {name}={other} and {name}={value}, and no node has both"
                        ));
                    }
                }
            }
        }
        Ok((!self.on.is_empty()).then_some(Labels { labels }))
    }
}

/// Labels as they are typed: `disk=fast, zone=a`.
pub(crate) fn said(labels: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<&String, &String> = labels.iter().collect();
    sorted.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(typed: &[&str]) -> Result<Option<String>, String> {
        let on = typed.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        Ok(OnArgs { on }.labels()?.map(|labels| said(&labels.labels)))
    }

    #[test]
    fn all_of_several_labels_are_meant() {
        assert_eq!(labels(&[]), Ok(None));
        assert_eq!(labels(&["zone=a"]), Ok(Some("zone=a".to_owned())));
        assert_eq!(labels(&["zone=a", "disk=fast=yes"]), Ok(Some("disk=fast=yes, zone=a".to_owned())));
        assert_eq!(labels(&["zone=a", "zone=a"]), Ok(Some("zone=a".to_owned())));
        assert_eq!(labels(&["all"]), Ok(Some(String::new())), "said, and not left away");
    }

    #[test]
    fn a_label_is_no_node() {
        assert_eq!(parse_node("web-3"), Ok("web-3".to_owned()));
        for typed in ["", "all", "zone=a"] {
            assert!(parse_node(typed).is_err_and(|why| why.contains("`hotctl nodes`")), "{typed:?}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for typed in [&["zone"][..], &["=a"], &["zone="], &["all", "zone=a"], &["zone=a", "zone=b"]] {
            assert!(labels(typed).is_err(), "{typed:?}");
        }
    }
}
