//! What a module's own functions fail with, and how a failure becomes the answer that a client sees.

use super::calls::CallError;
use core::any::Any;
use core::fmt;
use std::borrow::Cow;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};

/// What a module's own functions may fail with: anything that `?` takes.
///
/// In a handler it becomes 500 with a text that says nothing about the inside, and the error goes to the log with all
/// its causes; unless there is a [`StatusError`] among them, which says what the client is told.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// An error that knows its answer: a status, and a text that the client may read.
///
/// It may be anywhere in an error's chain of causes; the outermost counts.
///
/// ```
/// use hot_module::{Error, OrStatus, StatusError};
///
/// fn page(text: Option<&str>) -> Result<u32, Error> {
///     let text = text.or_status(400, "which page? Say ?page=N")?;
///     let page: u32 = text.parse().or_status(400, "the page is to be a number")?;
///     if page > 99 {
///         return Err(StatusError::new(404, "there are 99 pages").into());
///     }
///     Ok(page)
/// }
/// # assert_eq!(page(Some("7")).unwrap(), 7);
/// # assert_eq!(page(Some("100")).unwrap_err().to_string(), "there are 99 pages");
/// # assert_eq!(page(None).unwrap_err().to_string(), "which page? Say ?page=N");
/// ```
#[derive(Debug)]
pub struct StatusError {
    status: u16,
    message: Cow<'static, str>,
    cause: Option<Error>,
}

impl StatusError {
    /// An error with its status, 200 to 599, and what the client reads.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), cause: None }
    }

    /// With what led to it: for the log, not for the client.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// What the client reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StatusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Gives a failure, or an absence, the answer that the client gets for it.
pub trait OrStatus<T> {
    /// The value, or a [`StatusError`] whose cause is the error that was there.
    ///
    /// # Errors
    /// If there is no value.
    fn or_status(self, status: u16, message: impl Into<Cow<'static, str>>) -> Result<T, StatusError>;
}

impl<T, E: Into<Error>> OrStatus<T> for Result<T, E> {
    fn or_status(self, status: u16, message: impl Into<Cow<'static, str>>) -> Result<T, StatusError> {
        self.map_err(|error| StatusError::new(status, message).caused_by(error))
    }
}

impl<T> OrStatus<T> for Option<T> {
    fn or_status(self, status: u16, message: impl Into<Cow<'static, str>>) -> Result<T, StatusError> {
        self.ok_or_else(|| StatusError::new(status, message))
    }
}

/// What becomes of a handler's error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// The client gets this status and text.
    Answer(u16, &'a str),
    /// There is nobody left to answer.
    Nobody,
}

/// Decides what becomes of a handler's error.
pub(crate) fn judge<'a>(error: &'a (dyn std::error::Error + 'static)) -> Verdict<'a> {
    for cause in causes(error) {
        if let Some(known) = cause.downcast_ref::<StatusError>() {
            return Verdict::Answer(known.status, &known.message);
        }
        if let Some(CallError::Cancelled | CallError::Ended) = cause.downcast_ref() {
            return Verdict::Nobody;
        }
    }
    Verdict::Answer(500, "internal server error")
}

/// An error and all its sources, outermost first.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    core::iter::successors(Some(error), |error| error.source())
}

/// An error with all its sources as one text.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let said = cause.to_string();
        // Many errors repeat their source in their own text.
        if text.ends_with(&said) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&said);
    }
    text
}

/// What a panic said. A payload may panic when it is dropped, so one that is no text is leaked.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => format!("panicked: {text}"),
        Err(panic) => match panic.downcast::<&'static str>() {
            Ok(text) => format!("panicked: {text}"),
            Err(panic) => {
                core::mem::forget(panic);
                String::from("panicked")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug)]
    struct Outer(Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("while reading")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn the_outermost_known_cause_is_the_answer() {
        let inner = StatusError::new(404, "no such note").caused_by(io::Error::other("the disk is gone"));
        let outer = Outer(inner.into());
        assert_eq!(judge(&outer), Verdict::Answer(404, "no such note"));
        assert_eq!(chain(&outer), "while reading: no such note: the disk is gone");

        let again = StatusError::new(409, "taken").caused_by(outer);
        assert_eq!(judge(&again), Verdict::Answer(409, "taken"));
    }

    #[test]
    fn an_unknown_cause_tells_the_client_nothing() {
        let error: Error = Box::new(io::Error::other("password hunter2 was refused"));
        assert_eq!(judge(&*error), Verdict::Answer(500, "internal server error"));
        assert_eq!(chain(&*error), "password hunter2 was refused");
    }

    #[test]
    fn nobody_is_answered_whose_client_is_gone() {
        assert_eq!(judge(&Outer(CallError::Cancelled.into())), Verdict::Nobody);
        let told = StatusError::new(503, "later").caused_by(CallError::Cancelled);
        assert_eq!(judge(&told), Verdict::Answer(503, "later"));
    }
}
