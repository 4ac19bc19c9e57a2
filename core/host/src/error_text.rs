//! Operating system errors in the words that classic nodes use.

use std::io;
use std::path::Path;

/// The system's text with a lower-case first letter and without the number: `no such file or directory`.
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.rfind(" (os error ") {
        Some(at) if error.raw_os_error().is_some() => &text[..at],
        _ => &text,
    };
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    // `RFS specific error` keeps its capitals.
    if letters.clone().next().is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    first.to_lowercase().chain(letters).collect()
}

/// `VERB PATH: text`, as in `open /x/status: permission denied`.
pub(crate) fn path_text(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("{verb} {}: {}", path.display(), os_text(error))
}

/// Why a program could not be started, in the words of `work.md` §5.
pub fn spawn_text(program: &str, error: &io::Error) -> String {
    use io::ErrorKind::{NotFound, PermissionDenied};
    if program.is_empty() {
        return "exec: no command".to_owned();
    }
    if !program.contains('/') && matches!(error.kind(), NotFound | PermissionDenied) {
        return format!("exec: \"{program}\": executable file not found in $PATH");
    }
    format!("fork/exec {program}: {}", os_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_classic_ones() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(os_text(&missing), "no such file or directory");
        assert_eq!(
            path_text("open", Path::new("/a/b"), &missing),
            "open /a/b: no such file or directory"
        );
        assert_eq!(
            spawn_text("nope", &missing),
            "exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(
            spawn_text("/no/pe", &missing),
            "fork/exec /no/pe: no such file or directory"
        );
        assert_eq!(spawn_text("", &missing), "exec: no command");
        assert_eq!(os_text(&io::Error::other("Own words")), "own words");
    }
}
