//! stub
use crate::account::Account;
use crate::encode::Encoder;
use crate::outgoing::Outgoing;
use crate::request::Request;
use crate::session::Refusal;
use dichroic_pipeline::{Handle, Row};
use tokio::time::Instant;
pub(crate) struct PointFeed {
    account: Account,
}
impl PointFeed {
    pub fn new(_: Handle, _: Request, account: Account, _: u32, _: usize) -> Self {
        PointFeed { account }
    }
    pub async fn next(&self) -> Option<Vec<Row>> {
        std::future::pending().await
    }
    pub fn accept(&mut self, _: Option<Vec<Row>>, _: &mut Outgoing, _: &mut Encoder) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn fill(&mut self, _: &mut Outgoing, _: &mut Encoder, _: Instant) {}
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
    pub fn sent(&self, n: u64) {
        self.account.sent(n)
    }
}
