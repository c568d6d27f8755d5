import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ObjectReport } from '../model/index.ts'
import { silentLogger } from '../observability/index.ts'
import { dueReports, ObjectReports } from './object-reports.ts'
import type { ObjectProblem } from './routing/route-table.ts'
import { sampleGateway, sampleVirtualService } from './samples.ts'

const never = new AbortController().signal
const said = (isInForce: boolean, message: string) => ({ reported: { isInForce, message } })
const about = (message: string, fields: Partial<ObjectProblem> = {}): ObjectProblem => {
  return { kind: 'Gateway', object: 'shop/front', severity: 'error', message, ...fields }
}
const noServices = { virtualServices: new Set<never>() }

test('an object with problems is told, and one that was told and has none any more', () => {
  const gateways = [sampleGateway(), sampleGateway({ name: 'well', ...said(false, 'old') })]
  const virtualServices = new Set([sampleVirtualService({ name: 'bad' }), sampleVirtualService({ name: 'good' })])
  const service = about('no such host', { kind: 'VirtualService', object: 'shop/bad' })
  assert.deepEqual(dueReports({ gateways, virtualServices }, [about('a'), about('b'), service]), [
    { kind: 'gateways', key: 'shop/front', report: { isInForce: false, message: 'a; b' } },
    { kind: 'gateways', key: 'shop/well', report: { isInForce: true, message: 'all of it is in force' } },
    { kind: 'virtualServices', key: 'shop/bad', report: { isInForce: false, message: 'no such host' } },
  ])
})

test('an object that says it already, or has nothing but notices, is not told again', () => {
  const gateways = [sampleGateway(said(false, 'a')), sampleGateway({ name: 'noticed' })]
  const notice = about('has no effect', { object: 'shop/noticed', severity: 'notice' })
  assert.deepEqual(dueReports({ gateways, ...noServices }, [about('a'), notice]), [])
})

test('what is wrong with a Secret is told by the Gateways that name it, and long lists are cut', () => {
  const secret = about('has no tls.key', { kind: 'Secret', object: 'shop/cert', gateway: 'shop/front' })
  const [one] = dueReports({ gateways: [sampleGateway()], ...noServices }, [secret])
  assert.equal(one?.report.message, 'Secret shop/cert: has no tls.key')
  const many = Array.from({ length: 11 }, (_, index) => about(`m${index}`))
  const [cut] = dueReports({ gateways: [sampleGateway()], ...noServices }, many)
  assert.match(cut?.report.message ?? '', /^m0; .*; m7; and 3 more$/)
})

function writer(writeReport: (report: ObjectReport) => Promise<void> = async () => {}) {
  const written: string[] = []
  const told: string[] = []
  let nowMs = 0
  const logger = { ...silentLogger, info: ({ reason }: { readonly reason?: string }) => void told.push(reason ?? '') }
  const reports = new ObjectReports({
    writeReport: async (_kind, _key, report) => {
      written.push(report.message)
      await writeReport(report)
    },
    nowMs: () => nowMs,
    logger,
  })
  const look = async (atMs: number, ...problems: readonly ObjectProblem[]) => {
    nowMs = atMs
    return await reports.write({ gateways: [sampleGateway()], ...noServices }, problems, never)
  }
  return { written, told, look, reports }
}

test('only what is wrong for a while is written', async () => {
  const { written, look } = writer()
  assert.equal(await look(0, about('a')), true)
  assert.equal(await look(2_000), false)
  await look(3_000, about('a'))
  await look(5_000, about('b'))
  await look(7_000, about('b'))
  assert.deepEqual(written, [])
  await look(8_000, about('b'))
  assert.deepEqual(written, ['b'])
})

test('one object is written about ever more rarely while it does not say what was written', async () => {
  const { written, look } = writer()
  for (let second = 0; second < 3600; second++) await look(second * 1000, about('a'))
  assert.ok(written.length >= 8 && written.length < 16, String(written.length))
})

test('that nothing can be written is told once, until it could be written again', async () => {
  let isRefused = true
  const { told, look, reports } = writer(async () => {
    if (isRefused) throw new Error('Cannot get /apis/x/namespaces/shop/gateways/front/status: 403')
  })
  for (const atMs of [0, 4_000, 60_000, 120_000]) await look(atMs, about('a'))
  assert.equal(told.length, 1)
  assert.match(reports.problem ?? '', /front\/status: 403$/)
  isRefused = false
  await look(400_000, about('a'))
  assert.equal(reports.problem, undefined)
  isRefused = true
  await look(900_000, about('a'))
  assert.equal(told.length, 2)
})
