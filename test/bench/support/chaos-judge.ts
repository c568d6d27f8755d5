/** What the clients and processes of a chaos run have said, against what was done to them. */
import { clock, type Timeline } from './chaos-timeline.ts'

/** What must not be. */
export interface Violation {
  readonly at: number
  readonly what: string
}

/** A line of a client or of a pod's server. */
export interface Report {
  readonly t: number
  readonly what: string
  readonly kind?: string
  readonly flow?: string
  readonly to?: string
  readonly side?: string
  readonly problem?: string
  readonly reason?: string
  readonly from?: number
  readonly openedMs?: number
  readonly isKept?: boolean
  readonly port?: number
}

/** So long after a trouble new flows may still fail. */
export const settleMs = 5_000
/** So long after a trouble an old flow may stand still. */
const goOnMs = 15_000
/** Outages up to this end no flow. */
const resumableMs = 28_500
const slowMs = 5_000

export function judge(client: string, report: Report, timeline: Timeline): Violation | undefined {
  const { t, what, to = '' } = report
  const bad = (text: string, from: number): Violation => {
    const facts = `${client}>${to} ${report.flow ?? report.kind ?? ''} port ${report.port ?? '?'}`
    return { at: t, what: `${text}: ${facts}; before it: ${timeline.describe(from - 40_000, t) || 'nothing'}` }
  }
  switch (what) {
    case 'corrupt':
      return bad(`WRONG BYTES (${report.side}: ${report.problem})`, t)
    case 'truncated': {
      const nodes = nodesOf(client, report)
      if (timeline.wasRestarted(nodes, (report.from ?? t) - 1_000, t)) return undefined
      return bad(`TRUNCATED (${report.side}: ${report.problem})`, report.from ?? t)
    }
    case 'failed':
    case 'slow': {
      const from = report.from ?? t
      const isLate = what === 'failed' || t - from > slowMs
      if (!isLate || isExcused(client, to, from, t, timeline)) return undefined
      return bad(
        `a new request ${what === 'failed' ? `failed (${report.reason})` : 'was slow'} after ${t - from} ms`,
        from,
      )
    }
    case 'gap':
    case 'stuck': {
      const from = report.from ?? t
      const clear = timeline.longestClear([client, to], from, t, 0)
      if (clear <= goOnMs) return undefined
      return bad(
        `a flow ${what === 'gap' ? 'stood' : 'stands'} still for ${t - from} ms, ${clear} ms without trouble`,
        from,
      )
    }
    case 'udp-gap': {
      const from = report.from ?? t
      const clear = timeline.longestClear([client, to], from, t, settleMs)
      return clear <= goOnMs - settleMs
        ? undefined
        : bad(
            `no answers to datagrams (${report.isKept ? 'kept' : 'new'} socket) for ${t - from} ms, ${clear} ms clear`,
            from,
          )
    }
    case 'ended':
      return judgeEnd(client, report, timeline, bad)
    default:
      return undefined
  }
}

function judgeEnd(
  client: string,
  report: Report,
  timeline: Timeline,
  bad: (text: string, from: number) => Violation,
): Violation | undefined {
  const { t, to = '', openedMs = t, reason = '' } = report
  if (timeline.wasRestarted([client, to], openedMs - 100, t)) return undefined
  // One that did not come up is a request that failed.
  const mayFail = timeline.troubles([client, to], openedMs - settleMs, openedMs + 1_000, true).length > 0
  if (mayFail && t - openedMs < 13_000) return undefined
  const away = timeline.longestAway([client, to], Math.max(openedMs, t - 90_000), t, settleMs)
  if (away > resumableMs) return undefined
  return bad(
    `a flow of ${t - openedMs} ms ended (${reason}), ${away} ms at most without a way`,
    Math.max(openedMs, t - 40_000),
  )
}

function isExcused(client: string, to: string, from: number, until: number, timeline: Timeline): boolean {
  const targets = to === 'spread' ? ['cloud-1', 'edge-b1', 'edge-a2'] : [to]
  return targets.some((target) => timeline.troubles([client, target], from - settleMs, until, true).length > 0)
}

function nodesOf(client: string, { flow = '', to }: Report): string[] {
  const match = /^(\S+)>(\S+) /.exec(flow)
  return match === null ? [client, to ?? ''] : [match[1] ?? '', match[2] ?? '']
}

export function renderViolation(seed: number, { at, what }: Violation): string {
  return `VIOLATION seed ${seed} ${clock(at)} ${what}`
}
