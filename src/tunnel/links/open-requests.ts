import { type OpenRequest, parseOpenRequest } from '../flows/open-message.ts'
import { decodeJson } from './frame.ts'

/** Bounds what a peer can make us remember. */
const maxKnown = 128
const maxKnownBytes = 512

/** Reads what a peer asks for. Most flows ask for what others have asked for, so that only new requests are looked into. */
export class OpenRequests {
  readonly #known = new Map<string, OpenRequest>()

  /** Throws a `LinkProtocolError` or `FrameError` when it is no request. */
  read(payload: Buffer): OpenRequest {
    const text = payload.toString('latin1')
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const request = parseOpenRequest(decodeJson(payload))
    if (payload.length > maxKnownBytes) return request
    if (this.#known.size >= maxKnown) this.#known.clear()
    this.#known.set(text, request)
    return request
  }
}
