//! Help and bash completion, written from the table of entities (`config.md` §2).

use std::fmt::Write;

use crate::config::entity::{ENTITIES, Entity, Param, Section, Support};

/// The help text for the program called `program`.
pub fn help(program: &str) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_help(&mut out, program);
    out
}

fn write_help(out: &mut String, program: &str) -> std::fmt::Result {
    writeln!(out, "Usage: {program} [--<action> [<param>=<value> ...] ...]\n")?;
    writeln!(out, "   --help: Show this help\n")?;
    writeln!(
        out,
        "   --config <filename>: Load additional config options from a YAML file\n"
    )?;
    writeln!(
        out,
        "   --bash-completion: Generate a completion script for the bash shell\n"
    )?;
    writeln!(
        out,
        "   --config-v2: Read a configuration of the second dialect; see --config-v2 --help\n"
    )?;
    writeln!(
        out,
        "   demo: Run a small mesh on this machine and show work running on it\n"
    )?;
    writeln!(
        out,
        "   check: Say what is wrong with a configuration and what it names; see check --help\n"
    )?;
    for section in Section::ALL {
        writeln!(out, "{}:\n", section.title())?;
        let listed = || {
            ENTITIES
                .iter()
                .filter(|entity| entity.section == section && !entity.hidden)
        };
        for entity in listed()
            .filter(|entity| entity.required)
            .chain(listed().filter(|entity| !entity.required))
        {
            write_entity(out, entity)?;
        }
    }
    Ok(())
}

fn write_entity(out: &mut String, entity: &Entity) -> std::fmt::Result {
    let note = match entity.support {
        Support::Supported => "",
        Support::Unavailable => " (not supported yet, has no effect)",
        Support::Refused => " (not supported yet, refused)",
    };
    writeln!(out, "   --{}: {}{note}", entity.name, entity.about)?;
    for param in entity.params {
        writeln!(
            out,
            "      {}=<{}>: {}{}",
            param.name,
            param.kind.label(),
            param.about,
            remarks(param)
        )?;
    }
    writeln!(out)
}

fn remarks(param: &Param) -> String {
    let mut remarks = Vec::new();
    if param.required {
        remarks.push("required".to_owned());
    }
    if let Some(default) = param.default {
        remarks.push(format!("default: {default}"));
    }
    if param.bare {
        remarks.push("the name may be left out".to_owned());
    }
    if remarks.is_empty() {
        String::new()
    } else {
        format!(" ({})", remarks.join(", "))
    }
}

/// A script that completes entities and their parameters in bash.
pub fn bash_completion() -> String {
    let visible = || ENTITIES.iter().filter(|entity| !entity.hidden);
    let mut words: Vec<String> = visible().map(|entity| format!("--{}", entity.name)).collect();
    words.extend(["--help", "--config", "--bash-completion"].map(str::to_owned));
    let mut cases = String::new();
    for entity in visible().filter(|entity| !entity.params.is_empty()) {
        let params: Vec<_> = entity.params.iter().map(|param| format!("{}=", param.name)).collect();
        let _ = writeln!(cases, "        --{}) params=\"{}\" ;;", entity.name, params.join(" "));
    }
    format!(
        "_receptor() {{\n\
         \x20   local cur=\"${{COMP_WORDS[COMP_CWORD]}}\" entity=\"\" params=\"\" i\n\
         \x20   for ((i = COMP_CWORD - 1; i > 0; i--)); do\n\
         \x20       if [[ ${{COMP_WORDS[i]}} == -* ]]; then entity=\"${{COMP_WORDS[i]}}\"; break; fi\n\
         \x20   done\n\
         \x20   case \"$entity\" in\n\
         \x20       --config|-c) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n\
         {cases}\
         \x20   esac\n\
         \x20   COMPREPLY=($(compgen -W \"$params {words}\" -- \"$cur\"))\n\
         \x20   if [[ ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi\n\
         }}\n\
         complete -F _receptor receptor\n",
        words = words.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is reviewed like code: `RECEPTOR_BLESS=1 cargo test -p receptor-cli` writes it anew.
    #[test]
    fn the_help_is_as_reviewed() {
        let text = help("receptor");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
        if std::env::var_os("RECEPTOR_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn the_completion_knows_entities_and_parameters() {
        let script = bash_completion();
        assert!(script.contains("--tcp-peer) params=\"address= redial= tls= cost= allowedpeers=\" ;;"));
        assert!(script.contains(" --config "));
        assert!(!script.contains("command-runner"));
    }
}
