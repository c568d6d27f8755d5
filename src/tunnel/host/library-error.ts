/**
 * What the library has rejected with, as an error: where a connection is lost while it waits for the far end, that is the event
 * of the loss, of which nothing could be told.
 */
export function errorOfLibrary(reason: unknown): Error {
  if (reason instanceof Error) return reason
  const cause: unknown = typeof reason === 'object' && reason !== null && 'error' in reason ? reason.error : undefined
  return cause instanceof Error ? cause : new Error('the connection to the peer was lost')
}
