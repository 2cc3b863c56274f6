//! A board of notes: an axum application with extractors, state, middleware, an upload and server-sent events.
//!
//! `main.rs` serves it on a socket of its own. `module.rs` is all that makes it a module: this file has one line for it.

#![forbid(unsafe_code)]

mod board;
mod module;

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use board::{Board, Note};
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};

/// The largest note, as JSON. An upload has no limit: it is not kept.
const MAX_NOTE: usize = 16 * 1024;

/// What an operator sets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Who may write: `authorization: Bearer TOKEN`. None: everybody.
    pub token: Option<String>,
}

/// What handlers share.
#[derive(Clone, Debug)]
struct App {
    board: Arc<Board>,
    settings: Arc<Settings>,
}

/// The application.
pub fn app(settings: Settings) -> Router {
    let app = App { board: Arc::default(), settings: Arc::new(settings) };
    Router::new()
        .route("/notes", get(list).post(add))
        .route("/notes/{id}", get(one))
        .route("/files/{name}", put(upload))
        .route("/events", get(events))
        .route("/status", get(status))
        .layer(DefaultBodyLimit::max(MAX_NOTE))
        .layer(middleware::from_fn_with_state(app.clone(), only_with_token))
        .layer(middleware::from_fn(name_the_server))
        .with_state(app)
}

/// Refuses to write for whoever lacks the token.
async fn only_with_token(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let is_allowed =
        request.method().is_safe() || app.settings.token.is_none() || given == app.settings.token.as_deref();
    if is_allowed { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
}

/// Says in every answer who gave it.
async fn name_the_server(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-served-by", HeaderValue::from_static(env!("CARGO_PKG_NAME")));
    response
}

#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<usize>,
}

async fn list(State(app): State<App>, Query(page): Query<Page>) -> Json<Vec<Note>> {
    Json(app.board.last(page.limit.unwrap_or(10)))
}

#[derive(Debug, Deserialize)]
struct NewNote {
    text: String,
}

async fn add(State(app): State<App>, note: Result<Json<NewNote>, JsonRejection>) -> Response {
    match note {
        Ok(Json(note)) => {
            let note = app.board.add(note.text);
            let location = format!("/notes/{}", note.id);
            (StatusCode::CREATED, [(header::LOCATION, location)], Json(note)).into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}

async fn one(State(app): State<App>, Path(id): Path<u64>) -> Result<Json<Note>, StatusCode> {
    app.board.get(id).map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// What came of an upload.
#[derive(Debug, Serialize)]
struct Upload {
    name: String,
    bytes: u64,
    hash: u64,
}

/// Reads the body as it comes and keeps none of it.
async fn upload(Path(name): Path<String>, body: Body) -> Result<Json<Upload>, StatusCode> {
    let mut pieces = body.into_data_stream();
    let mut hasher = DefaultHasher::new();
    let mut upload = Upload { name, bytes: 0, hash: 0 };
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_gone| StatusCode::BAD_REQUEST)?;
        upload.bytes += u64::try_from(piece.len()).unwrap_or_default();
        // Byte by byte: pieces may be cut anywhere.
        piece.iter().for_each(|byte| hasher.write_u8(*byte));
    }
    upload.hash = hasher.finish();
    Ok(Json(upload))
}

/// Notes as they are added, until the client goes away.
async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let notes = app.board.follow();
    let events = notes.map(|note| Ok(Event::default().event("note").id(note.id.to_string()).data(note.text)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// How many follow the events now.
#[derive(Debug, Serialize)]
struct Status {
    followers: usize,
}

async fn status(State(app): State<App>) -> Json<Status> {
    Json(Status { followers: app.board.followers() })
}
