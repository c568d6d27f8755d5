import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../observability/index.ts'
import { sweepFormerAgent } from './former-agent.ts'

const bridgeDeviceIP = '169.254.96.16'

test('chains that cannot be removed keep nobody from serving, and are told of', async () => {
  const told: string[] = []
  const logger = {
    ...silentLogger,
    info: (_fields: object, message: string) => void told.push(message),
    warn: (_fields: object, message: string) => void told.push(message),
  }
  const { signal } = new AbortController()
  await sweepFormerAgent({ sweepPortalChains: async () => ['KUBE-PORTALS-HOST'] }, { bridgeDeviceIP, logger }, signal)
  const locked = { sweepPortalChains: () => Promise.reject(new Error('another app holds the xtables lock')) }
  await sweepFormerAgent(locked, { bridgeDeviceIP, logger }, signal)
  assert.deepEqual(told, [
    'removed chains that an agent of the Go system left',
    'chains that an agent of the Go system left may still be there',
  ])
  const stopping = AbortSignal.abort(new Error('stopping'))
  await assert.rejects(sweepFormerAgent(locked, { bridgeDeviceIP, logger }, stopping), /stopping/)
})
