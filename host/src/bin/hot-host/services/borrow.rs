//! Addresses that the module gives: what is refused before one is used, and what its use relies on.

use crate::exchange::{Field, Refusal};
use crate::head::{MAX_HEADERS, is_allowed};
use hot_module::abi::{self, Header, Slice, Status};
use hot_wire::data::MAX_HEAD;
use hot_wire::metrics::MAX_LABELS;

/// What a head costs without its fields, and what each of them costs besides its bytes: the lengths and the status of its
/// frame. Trailers, which cost less, are held to the same.
const HEAD_COST: usize = 8;
const FIELD_COST: usize = 4;

/// What a service comes to.
pub(super) type Outcome<T = ()> = Result<T, Refusal>;

/// Makes a call that has one result, and writes that where the module wants it. Without a place for it nothing is done.
///
/// # Safety
/// `out` is null or a place for one `T`.
pub(super) unsafe fn give<F, T>(
    found: Outcome<F>,
    out: *mut T,
    call: impl FnOnce(F) -> Outcome<T>,
) -> Status {
    let outcome = found.and_then(|found| if out.is_null() { Err(Refusal::Invalid) } else { call(found) });
    match outcome {
        Ok(value) => {
            // SAFETY: not null, so a place for one `T` (caller).
            unsafe { out.write(value) };
            abi::OK
        }
        Err(refusal) => refusal.status(),
    }
}

/// As [`give`], for an address and a count.
///
/// # Safety
/// Each of `out` and `count` is null or a place for one value.
pub(super) unsafe fn give_two<F>(
    found: Outcome<F>,
    out: *mut *const Header,
    count: *mut usize,
    call: impl FnOnce(F) -> Outcome<(*const Header, usize)>,
) -> Status {
    let has_place = !out.is_null() && !count.is_null();
    let outcome = found.and_then(|found| if has_place { call(found) } else { Err(Refusal::Invalid) });
    match outcome {
        Ok((first, number)) => {
            // SAFETY: not null, so a place for one pointer (caller).
            unsafe { out.write(first) };
            // SAFETY: not null, so a place for one count (caller).
            unsafe { count.write(number) };
            abi::OK
        }
        Err(refusal) => refusal.status(),
    }
}

/// # Safety
/// The slice is empty, or its bytes can be read and do not change for `'a`.
pub(super) unsafe fn borrow<'a>(slice: Slice) -> Outcome<&'a [u8]> {
    if slice.len == 0 {
        return Ok(&[]);
    }
    if slice.ptr.is_null() || isize::try_from(slice.len).is_err() {
        return Err(Refusal::Invalid);
    }
    // SAFETY: not null, no longer than the address space, and good for `'a` (caller).
    Ok(unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) })
}

/// Headers of the module for a head with this status, each one checked, and as many and as large as a head may have.
///
/// # Safety
/// `first` is null, or `count` headers lie there; they and their slices do not change for `'a`.
pub(super) unsafe fn borrow_fields<'a>(
    first: *const Header,
    count: usize,
    status: u16,
) -> Outcome<&'a [Header]> {
    if count > MAX_HEADERS {
        return Err(Refusal::TooLarge);
    }
    // SAFETY: as here (caller), and the count is bounded.
    let fields = unsafe { borrow_all(first, count) }?;
    if !parts(fields).all(|(name, value)| is_allowed(name, value, status)) {
        return Err(Refusal::Invalid);
    }
    let sizes = parts(fields).map(|(name, value)| FIELD_COST + name.len() + value.len());
    if sizes.fold(HEAD_COST, usize::saturating_add) > MAX_HEAD {
        return Err(Refusal::TooLarge);
    }
    Ok(fields)
}

/// Labels of a metric; what they may be is the business of the metrics.
///
/// # Safety
/// `first` is null, or `count` headers lie there; they and their slices do not change for `'a`.
pub(super) unsafe fn borrow_labels<'a>(first: *const Header, count: usize) -> Outcome<&'a [Header]> {
    if count > MAX_LABELS {
        return Err(Refusal::Invalid);
    }
    // SAFETY: as here (caller), and the count is bounded.
    unsafe { borrow_all(first, count) }
}

/// Names and values that can be borrowed, each one.
///
/// # Safety
/// `first` is null, or `count` headers lie there, of which the address space holds more; they and their slices do not
/// change for `'a`.
unsafe fn borrow_all<'a>(first: *const Header, count: usize) -> Outcome<&'a [Header]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() || !first.is_aligned() {
        return Err(Refusal::Invalid);
    }
    // SAFETY: not null, aligned, a bounded count, and good for `'a` (caller).
    let fields = unsafe { std::slice::from_raw_parts(first, count) };
    for field in fields {
        // SAFETY: the field's slices are good for `'a` (caller).
        unsafe { borrow(field.name) }?;
        // SAFETY: as above.
        unsafe { borrow(field.value) }?;
    }
    Ok(fields)
}

/// Name and value of headers that [`borrow_all`] has checked.
pub(super) fn parts<'a>(fields: &'a [Header]) -> impl Iterator<Item = Field<'a>> + Clone {
    let bytes = |slice: Slice| -> &'a [u8] {
        // SAFETY: `borrow_all` has checked both slices, and they are good for as long as `fields` are borrowed.
        unsafe { borrow(slice) }.unwrap_or_default()
    };
    fields.iter().map(move |field| (bytes(field.name), bytes(field.value)))
}
