import assert from 'node:assert/strict'
import { test } from 'node:test'
import { News } from './news.ts'

test('news reach all who want to hear of that kind, and nobody else', () => {
  const news = new News()
  const heard: string[] = []
  news.onNetworkChange(() => heard.push('network, first'))
  news.onNetworkChange(() => heard.push('network, second'))
  news.onPeers((names) => heard.push(`peers ${names}`))
  news.tellPeers(['edge-a', 'edge-b'])
  assert.deepEqual(heard, ['peers edge-a,edge-b'])
  news.tellNetworkChange()
  assert.deepEqual(heard.slice(1), ['network, first', 'network, second'])
})
