/**
 * Byte streams and who makes them: dialling, listening, copying both ways with half-close, and in-memory fakes.
 * It knows addresses and ports, nothing of Services or peers.
 *
 * Read next: `dialer.ts`, `splice.ts`.
 *
 * @module
 */
export * from './already-running.ts'
export * from './borrowed-read.ts'
export * from './buffer-pool.ts'
export { type BufferReader, readInto } from './bulk-read.ts'
export * from './connect-tcp.ts'
export {
  type ControlHandler,
  type ControlRequest,
  type ControlResponse,
  NotRunningError,
  requestControl,
  startControlServer,
} from './control-socket.ts'
export {
  type DatagramOptions,
  type DatagramSocket,
  type ExchangeOptions,
  exchangeDatagram,
  openDatagramSocket,
  type SocketAddress,
  timeoutError,
} from './datagram.ts'
export * from './datagram-dialer.ts'
export * from './dial-from-listener.ts'
export * from './dialer.ts'
export * from './direct-dialer.ts'
export * from './exchange-datagrams.ts'
export * from './fetch-text.ts'
export * from './http-listener.ts'
export * from './http-proxy.ts'
export type * from './lender.ts'
export * from './listen-error.ts'
export * from './memory-stream.ts'
export * from './message-server.ts'
export * from './open-file-limit.ts'
export * from './reset-stream.ts'
export * from './splice.ts'
export * from './tcp-listener.ts'
