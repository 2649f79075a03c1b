//! The thread of a session: does its tasks one after the other, in the order in which they were
//! sent. Whatever it waits for, the session's end ends the wait.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_ir::{BackendIr, GraphId, OperationIr};
use burn_router::{Graph, TensorInterpreter};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::messages::{Answer, Content, Peer, RequestId, Task};
use super::notices::say;
use super::trainings::Seat;
use super::transfer::{TransferError, fetch, packed};

/// What a session's thread works with.
pub(super) struct Tasks<B: BackendIr> {
    runner: TensorInterpreter<B>,
    graphs: HashMap<GraphId, Graph>,
    seat: Seat<B>,
    answers: mpsc::Sender<Answer>,
    ended: CancellationToken,
    runtime: Handle,
    peer: SocketAddr,
}

/// Why a task cannot be done. What comes after it would lack its result, so it ends the session.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    /// Nobody waits for it any more.
    #[error("the session has ended")]
    Ended,
    #[error("a tensor of {0}: {1}")]
    Transfer(String, TransferError),
    #[error("a collective operation, which workers do not serve")]
    Collective,
    #[error("a tensor that is to be fetched {0} times; workers give it once")]
    Copies(u32),
    #[error("a graph that was never registered")]
    Graph,
}

impl<B: BackendIr> Tasks<B> {
    pub(super) fn new(
        runner: TensorInterpreter<B>,
        seat: Seat<B>,
        answers: mpsc::Sender<Answer>,
        ended: CancellationToken,
        peer: SocketAddr,
    ) -> Self {
        let runtime = Handle::current();
        Self { runner, graphs: HashMap::new(), seat, answers, ended, runtime, peer }
    }

    /// Does tasks on a thread of their own until there are no more, one fails, or the session has
    /// ended.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn spawn(mut self, mut queue: mpsc::Receiver<Task>) -> io::Result<()> {
        let work = move || {
            // A panic may leave the interpreter half-way: there is no next task then. The panic's
            // hook has said what it was.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                while let Some(task) = queue.blocking_recv()
                    && !self.ended.is_cancelled()
                {
                    match self.perform(task) {
                        Ok(()) => {}
                        Err(TaskError::Ended) => break,
                        Err(error) => {
                            say(&format!("error: {}: {error}", self.peer));
                            break;
                        }
                    }
                }
            }));
            self.close();
        };
        std::thread::Builder::new().name("session".into()).spawn(work).map(|_| ())
    }

    /// Frees what the session had; then its thread ends, and its lease with it.
    fn close(self) {
        let Self { runner, graphs, seat, answers, .. } = self;
        drop(answers); // first: the training sees the end even if the device is slow to
        let device = runner.device();
        let _ = runner.sync(); // what fails here failed for the training before
        drop((runner, graphs, seat));
        B::memory_cleanup(&device);
    }

    fn perform(&mut self, task: Task) -> Result<(), TaskError> {
        match task {
            Task::Seed(seed) => self.runner.seed(seed),
            Task::RegisterOperation(stream, operation) => {
                no_collective(&operation)?;
                stream.executes(|| self.runner.register_op(operation));
            }
            Task::RegisterAndExecuteGraph { stream_id, graph_id, relative_graph, bindings } => {
                relative_graph.iter().try_for_each(no_collective)?;
                let graph = Graph::new(relative_graph);
                stream_id.executes(|| graph.replay(&mut self.runner, bindings));
                self.graphs.insert(graph_id, graph);
            }
            Task::ExecuteGraph { stream_id, graph_id, bindings } => {
                let graph = self.graphs.get(&graph_id).ok_or(TaskError::Graph)?;
                stream_id.executes(|| graph.replay(&mut self.runner, bindings));
            }
            Task::RegisterTensor(stream, id, data) => {
                stream.executes(|| self.runner.register_tensor_data_id(id, data));
            }
            Task::RegisterAlias { stream_id, new_id, src_id } => {
                stream_id.executes(|| self.runner.register_alias(new_id, src_id));
            }
            Task::ExposeTensorLocal { stream_id, tensor, transfer_id } => {
                let tensor = stream_id.executes(|| self.runner.get_tensor(&tensor));
                self.seat.training.local.leave(transfer_id, tensor);
            }
            Task::RegisterTensorLocal { stream_id, transfer_id, new_id } => {
                let tensor = self.unless_ended(self.seat.training.local.take(&transfer_id))?;
                stream_id.executes(|| self.runner.register_tensor_to_device(new_id, tensor));
            }
            Task::RegisterTensorRemote(stream, remote, id) => {
                let Peer::WebSocket(address) = remote.peer;
                let address = address.written();
                let tensor =
                    self.unless_ended(fetch(&self.seat.training, &address, remote.capability))?;
                let tensor = tensor.map_err(|error| TaskError::Transfer(address, error))?;
                stream.executes(|| self.runner.register_tensor_data_id(id, tensor));
            }
            Task::ExposeTensorRemote { count, .. } if count != 1 => {
                return Err(TaskError::Copies(count));
            }
            Task::ExposeTensorRemote { stream_id, tensor, capability, .. } => {
                // In its place among the tasks; what comes after need not wait until it is read.
                let reading = stream_id.executes(|| self.runner.read_tensor_async(tensor));
                let (training, peer) = (self.seat.training.clone(), self.peer);
                let ended = training.ended.clone(); // others may want it when this session is over
                self.detach(ended, async move {
                    let problem = match reading.await.map(|data| packed(&data)) {
                        Ok(Ok(bytes)) => return training.exposed.leave(capability, bytes),
                        Ok(Err(error)) => error.to_string(),
                        Err(error) => error.to_string(),
                    };
                    say(&format!("error: {peer}: a tensor for another worker: {problem}"));
                    training.ended.cancel(); // somebody waits for it
                });
            }
            Task::ReadTensor(request, stream, tensor) => {
                let reading = stream.executes(|| self.runner.read_tensor_async(tensor));
                let answers = self.answers.clone();
                self.detach(self.ended.clone(), async move {
                    let content = Content::ReadTensor(reading.await);
                    let _ = answers.send(Answer { content, id: request }).await; // or it has left
                });
            }
            Task::SyncBackend(request, stream) => {
                let synced = stream.executes(|| self.runner.sync());
                self.answer(request, Content::SyncBackend(synced))?;
            }
            Task::DTypeUsage(request, dtype) => {
                let usage = self.runner.dtype_usage(dtype);
                self.answer(request, Content::DTypeUsage(usage))?;
            }
            Task::ProfileStart(request, _) => {
                self.answer(request, Content::ProfileStart(Ok(None)))?;
            }
            Task::ProfileEnd(request, ..) => {
                self.answer(request, Content::ProfileEnd(Ok(None)))?;
            }
            Task::ProfileAbandon(..) => {}
        }
        Ok(())
    }

    fn answer(&self, request: RequestId, content: Content) -> Result<(), TaskError> {
        let answer = Answer { content, id: request };
        self.answers.blocking_send(answer).map_err(|_| TaskError::Ended)
    }

    /// Waits for something, but not beyond the session's end.
    fn unless_ended<T>(&self, awaited: impl Future<Output = T>) -> Result<T, TaskError> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.ended.cancelled() => Err(TaskError::Ended),
                value = awaited => Ok(value),
            }
        })
    }

    /// Does something beside the tasks, but not beyond an end.
    fn detach(&self, ended: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = work => {}
            }
        });
    }
}

/// Collective operations wait for devices that may never come, and no training asks for one.
fn no_collective(operation: &OperationIr) -> Result<(), TaskError> {
    match operation {
        OperationIr::Distributed(_) => Err(TaskError::Collective),
        _ => Ok(()),
    }
}
