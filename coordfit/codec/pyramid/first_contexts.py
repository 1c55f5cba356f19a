"""First weights of the context network, trained on other pictures; see `bench/context_start.py`.

Multiples of 2^-8 as 16-bit integers, little-endian, in base 85: the layers one after the other.
"""

FRACTION_BITS = 8
UNITS = 24
WEIGHTS = (
    "_y5NK<o^T!SpeMsGypIFVgJVdkN?L0y#Gc4*Z<T1?*HEZ1OVp$4*+QZ5CCrf>i-G=+5eaS5djSUYXI{9A^^Mp8UXhH8vyeE?*DxN"
    "3jc@zC;*iIIRG*M&i|DETK_u$=Klr&$Nwq+n*S^S5C9+mOaTA?5dgUV7XSbN1^@5=4gl}}?EmZkJpi}>mjKZKtpG0oNdSBS;{Z|s"
    "9RSAve*gXdQUKWh-2Z3)5CC-mBLI*8zyDwWrT=CB@cvN%5CGu+Z2<QGYyRi|8UO$Q0RRX97yvy0um7w6-~Uzs{r_12(f|Md5CFXY"
    "@c{_`0RZ^_>i|0etpEJ~OaKf3;{SaB{r~*`0021vIR6;{6aYv7!2hZMr2jGh1^}4<mH)y2N&l<=aQ|ojH~`!Kn*S95$N#hc7XXg{"
    "Y5+9==l}8l?*D@Tj{nR5tNsoFE&%cXu>M*AqyIAirT<z0+y5T`2>`<X1^}P`c>wSK1^}=B9ROzl+W#v53jz`VFaQw%*8evCH~$#`"
    "+W$iU1_0#${Qv&{@&Dfc5&$6p0ssjB>i_=#9su3{!T+}a-2YtvM*r>sXaC9n(*WT8tpEZ5;Qwp@)BhC!PybN><Nq-L*Z(a5;QzM%"
    "uKoD`y8r9{@&9B2v;gq`@BhgE;{Wvj>i_=#Apj--Bmlwx>;M1%007GW1^~?efB<IzhX3&Y-~Q77w*g@Qs{i`{kN*+?!T&M<O8~L}"
    "ss0WC*#D*gzyBBj0|0gZE&#s&6abe1V*pqF`u|4&`~ctoQU2Wjz5kE^$p7U34gm1~4*=%>{QnUEp8t^lu>gGk4gmH4!2fCi{r?~U"
    "6#!2EssBCz@&CmC4glBxa{-P2`v0l_4**gCR{%8tC;(6aX8&~m)&MU5DF0Ug^#0xeApoiW2LLAk<Nu8RM*zP62mt5*?f-KCT>oYN"
    "Q2^%tYXA-akp5c$ApkG{bN}uC0RRR7R{&%GKLE)8U;y?1>;D`8*Z*4pdH<mQzyGrTLI6Sli2rH-e*w|{zyGrTR{-Px%KuUT=l{I_"
    "MF2Sf3IGcL=l|{h{Qr>uC;#97>Hk>(z5&Pp{{JxmcmKHmO8~<E0RUP6MgTPcA^)8J;{RU&CICzT*#BhzA^rmZ>;GK;-2YVmv;PwS"
    "69C-*E&v4p^#6<h9{>OV9|4sA&;S1a|Nnvjng3n?H~*0Sl>f{C(f}X-rT?7&WdG#<^8XnC1po;EyZ`e4aR6EXBLK4h=>Jdv000sH"
    "<Nq}P1_0~-h5vW|9s!pC#{lyHZ2#H+9snW$5CEzF&;Mut7XU2)QvfUg-~WaG(Exe>{{Kn<mH@&4HvjSe5&$s&x&Pb$1^_AmDFEaD"
    "+yB)669Dr66aY^D831AcApt4>%m0o5w*FQDSpNn9`Tv&xNC2Pzr2k?74*(PZumC>)T>$(3kpL?I!2cHivHx!XF#y2-uKpVSAOH{m"
    "=KiJs69Ak4ssGOavH!0BQ~(743INsr^8exgz5iJMAOMm8O#g8Il>jaPLI1=5KmHW}MF7nI(EsND)&Ic%?*EkkFaXv6zW;Uqi~#EY"
    "oc{;_jsH~uoBss>5CG8sC;)l@&i}CgYyWBgcK^};;{W*n(f_IbdH;g{8UO?UKL5@C|Nj{PkpCC}D*(a&$No<L0RSTai2ua?)BpJY"
    ";{TEVwEwLC>HwJlg8xSV(f`^1vj5xv&HrTod;hloy8pZXv;Us|WB-o-lK&3?^8cp)y#Go6ZT|-VcmJ&a9sv6Ph5w)b0RN%?*#8p%"
    "@&8KyJ^)nzUH}~c1OT)DQ~((O;{O}~!~aJBg8xte6aeb~Edam(vHu1D69DV~O#m<eSO4(;a{w6t-v7t{V*qUb<o}faTmJz7y#Jm6"
    "DFAi=yZr_LF#w_essGXc(EsEA=KwPR?*HEZDgb%_b^p5n=l>P|#Qzom1ptWuI{-8Qu>W8G`u{Kgr~hUCy#K!cHUI?xt^Y*-F#jL`"
    "e*j4UUI1JG_y1x5769A-GXMqtr~h;RHvpyp-TzPj;{dz=UI2#wM*zqFU;xGcApmRt%K!HNmj53BtpCIR?*FO(nE)FA=>IYQtpBV3"
    "xc^%K#sH)LY5({Ck^p1>ZUAurwEu+vDF7J&)&K1Oc>q}eG5>A=nE$N*%>M%bWdD5sf&XOxq5l>D4gbIXQva3zqW?7jV*h3TH~+l<"
    "g8z5_DE}w`8~^10!T#s}@c-xk&HnxW5CE0`&;R!S%>SqVBmfKmy8o#E835-0j{oKV&;J7e`Ty<z%m2CmRsYZbm;X`$hyUyT`~RW<"
    "Z2uhq{r`LassNY&z5eI_jQ^qkuKx)C*#Bz)>;GB+UjViL769q~djEv~i~sNcegFml$p3r*XaAW0{Qr^wuK&va+5esYvHzI=uK>CK"
    "TmXCktN;K1umFPp!T(zT+5e>fdjQ-2O#cS}a{%Z6!vFUFmH_1cWB@7vQ2;#v&;P;ywEx)uH~<F!#Q!A#82}Feum8dS7XY~bAONBN"
    "y#EORyZ<Ku0stNWA^-#cg#Wq!mjA2&0sz?m^#33ND*(9v(f@A%KLF$ZW&m;jS^$XuY5zn3Y5#8kc>k3DzW+P`4*)y>VE{@1`~NWj"
    "?Eminvi~Lk3;@di%l|0=rvKdk+W!jx;Q#CY_y6Yq+5fu#_W#EJ2LSv3F96N|Gyo|A0svzGqyH`dVE|A78~{ZCWB?QZ0{}As2mlrU"
    "8~`BzOaMs$dH@vwE&#m$IsnxFApqh3eE>)R{r{8zzW=lT1OW8^r2oqQPXPV@ga6L|&Hsu3SOAg#yZ`_H$p7B|AOI5p-v5vP#sBgD"
    "lK;;C_Wy(b=l`t#$p6Uyum9Npp8vA{bN|5q|NrFw*8lSV+5i6kSph=;KLGvz{QoHcumJ!6g8%{m_x~sW7yvH+vHyGjkN?;IpZ~i5"
    "<NwhAkpS8M&;MZmN&nOT)c@H3$p2&g>;Fmqp#Nb2WdBD1W&o!DsQz{U9{_Cqi2r{8_5Ygw$Ny~r5dRYZi2#-VP5*WP003YAEdZMT"
    "_Wz6kPXK`cPXImug8;PvVE-2YcmGKL)Bhp>LI1)3FaQAnDgZhFECA2{+W*}D;s4VAEC3w<Dges=)BgzoDFFWe6aeA>1OO!fB>*r0"
    "-v9dlHUR(sECBld`u_j`008;_`~UX;-T(am`2X|&tN;1`mj59D|NprE`2PX``Tu<X"
)
