//! The application standing alone: `axum-app [ADDRESS]`, with the token in `TOKEN`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write as _;

use axum_app::Settings;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let settings = Settings { token: std::env::var("TOKEN").ok() };
    let listener = TcpListener::bind(&address).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    axum::serve(listener, axum_app::app(settings)).await?;
    Ok(())
}
