// Hashes of test_bf16.cpp's stacks: thirty shapes with all cells in bf16, then in bf16x3, then in bf16x6.
// Made by `test_bf16 --print` from emulated tiles, not by the tile instruction.
#pragma once

#include <cstdint>

constexpr int kStackCount = 30;
constexpr uint64_t kBf16Hashes[3 * kStackCount] = {
    0xe67f5f9de9676218u, 0x2ba7219ba758a8d1u, 0x619b15f1f730741au, 0xd3fed55751841f5du, 0xe14bbd607c76371cu,
    0x3ee032a1b52f352bu, 0x92a09aeb24c10e50u, 0xa01dadb8244a01c5u, 0x4544d036142f0f10u, 0xcca041efd72dfaacu,
    0xafc62c86d3ab039cu, 0x65dfb6e619bd72e5u, 0xc9048d34f062e52bu, 0x445b45c6f735874eu, 0x4f09d57aa297c98cu,
    0xaeb4b57e1c3ac968u, 0x6f8bd11f4f9099f6u, 0x13c345c79e1691cfu, 0xbef558671bfc5effu, 0xd90917574d0392dau,
    0x93a57a42068a6185u, 0x60b2e119185da316u, 0xff30fa1193fe5b08u, 0x3ea19456c067c0feu, 0x082be6b3d7939417u,
    0xd68c865b7ad2eb44u, 0x491583857101f948u, 0x35aed2776d61fb25u, 0xcb8276e8f8474cbdu, 0x8936cc5dc0d92aa3u,
    0x38a3ad6e8fcd06d5u, 0x7a1bbcab73edd3e6u, 0xfeb61b1cf7d18629u, 0xd83ff9664231b276u, 0x8dd656a53ca61f63u,
    0xd68fffbe3cd1ddb7u, 0x083a60251915e63cu, 0x29c41b215e5e9586u, 0x64281d93a53b2038u, 0x15fe1a37b8b3cb1du,
    0x22796777c67d1e70u, 0x05f4593b5345b94fu, 0xba7ab8ee382dfcfeu, 0xccc6aa5dcd1548f4u, 0xcd11e85cc0350254u,
    0xea70f6f637665705u, 0x8f101abed9dfe493u, 0x95707a00ff8401bcu, 0xe5856a4211c7e7bcu, 0xa1e48ac64f9d9c04u,
    0x528c765a95e92a38u, 0x197d154157fdb2feu, 0xa455342e207bad9cu, 0x4474de5a6ff8c85bu, 0xc7475944616e288au,
    0x44e96e46840272a7u, 0xcadf6fc50135af8au, 0xe6b73210783e1268u, 0x7667342b773fcb8fu, 0x24fd4d714c761d55u,
    0x77390b6d6309a736u, 0xaa24d81556cc5ed7u, 0xfc071be7cfe60dbdu, 0x7d110628aa84795eu, 0x41cde340bb4eb7b4u,
    0x6e8f147ca86d3472u, 0x9ecc4609d6b774f3u, 0xc970ca3de433e2d2u, 0x9e5c6d9b41b85cf3u, 0xe2c8efb30adae66au,
    0xae93bb589282af7fu, 0x47fdc73b2d9e55b8u, 0x569cfcca37346546u, 0x5717a69d74021ea7u, 0x67b3830693547faeu,
    0xbbb9534e81d4bd8fu, 0x426bc9893ef033eau, 0xce4f3fb2bbbbbd48u, 0x8599abfb177c2524u, 0x3231cc4bb3ca8941u,
    0x6b136dc9ea8725c3u, 0x15bb23c5409e9253u, 0x98c84cea9a3b6e5bu, 0x6fe0bc3df4997539u, 0x1e67306466a02482u,
    0x450adf833aca4415u, 0x04ab1bb581941a8au, 0xabcb8a8216d914d3u, 0xc58dd82fd8975b2du, 0x501fd03ee59ca50du,
};
