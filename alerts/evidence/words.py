"""What is written into each pack for whoever opens it."""

README = """\
证据包说明
==========
本压缩包由农产品质量安全监测网关 Agrigate 生成，对应一条告警（线索，不是违法认定）。

manifest.json     清单：每个文件的 SHA-256、字节数；notes 写明未收录或不完整的内容及原因
manifest.sig      对 manifest.json 原始字节的 ed25519 签名（base64）
alert.json        告警当前状态
limit.json        判定所用限量：标准号、条款、版本；verified 为 false 表示限量待核
findings.json     超标读数或检测项目      tests.json  该样品的全部检测记录
readings.json     超标前后的读数          chart.svg   曲线与限值
raw.json, raw/    设备上传的原始字节及其在收件箱中的位置、接收时间
transitions.json  状态流转：何人、何时、何因；逐条哈希链
case.json         案件步骤与法定期限      laboratory.json  实验室报告
deliveries.json   推送记录                receipts.json    执法机构回执
时间均为 UTC 毫秒。

验证：agrigate evidence verify 文件.zip --key 公钥.pem
或只用通用工具：
  unzip 文件.zip && sha256sum raw/0001.bin         与 manifest.json 比对
  base64 -d manifest.sig > manifest.bin
  openssl pkeyutl -verify -pubin -inkey 公钥.pem -rawin -in manifest.json -sigfile manifest.bin

About this pack
===============
Made by Agrigate for one alert: a lead, not a finding of guilt. manifest.json names every part with its SHA-256 and says
in "notes" what is left out and why; manifest.sig is an ed25519 signature (base64) of the bytes of manifest.json.
raw/ holds the bytes as the device sent them, raw.json where they stand in the inbox. transitions.json is the log of the
alert: the hash of each row covers the row and the hash before it. Times are UTC milliseconds.

To check: agrigate evidence verify FILE.zip --key PUBLIC.pem, or with the tools above.
"""
